"""The behaviour log of the simulated shop: true, spoiled and bot rows, then Arrow.

Here: how the rows of a block come together and get their names. Not here: the process (`process`),
the other tables (`tables`). Called by `SimulatedShop`.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from recjax.data.simulated_shop import dirt, words
from recjax.data.simulated_shop.blocks import Block
from recjax.data.simulated_shop.config import ACTIONS, RATE, SEARCH, VIEW
from recjax.data.simulated_shop.population import COLUMN, People
from recjax.data.simulated_shop.process import Steps
from recjax.data.simulated_shop.tables import look_up
from recjax.data.simulated_shop.world import World

EVENT_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("action", pa.string()),
        ("timestamp", pa.int64()),
        ("session_id", pa.string()),
        ("query", pa.string()),
        ("rating", pa.float32()),
        ("price", pa.float32()),
        ("platform", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of the log before they get names; arrays [R].

    Attributes:
        user: int64, row of the block.
        time: int64 seconds.
        action: int64.
        item: int64.
        session: int64.
        rating: float64, NaN but for ratings.
        query_draw: float64, decides the words of a search.
        dirt: int64, kind of fault, -1 for true rows.
    """

    user: np.ndarray
    time: np.ndarray
    action: np.ndarray
    item: np.ndarray
    session: np.ndarray
    rating: np.ndarray
    query_draw: np.ndarray
    dirt: np.ndarray

    def take(self, order: np.ndarray) -> "Rows":
        """Picks rows in the given order."""
        return Rows(**{field.name: getattr(self, field.name)[order] for field in _ROW_FIELDS})


_ROW_FIELDS = dataclasses.fields(Rows)


def event_rows(block: Block, steps: Steps) -> Rows:
    """Puts true, spoiled and bot rows of a block together, user after user."""
    true = _true_rows(block, steps)
    kinds = dirt.dirt_kinds(block.world.config, block.tape)
    spoiled = np.flatnonzero(kinds >= 0)
    extra = dataclasses.replace(true.take(spoiled), dirt=kinds[spoiled])
    extra = dataclasses.replace(extra, time=dirt.spoil_times(extra.time, extra.dirt))
    bots = [_bot_rows(block.world, block.people, int(row)) for row in block.bots]
    # A spoiled row follows its true one; a bot's rows stand where its own slots would have been.
    places = [np.arange(len(kinds)), spoiled]
    places += [block.people.offsets[rows.user] - 0.5 for rows in bots]
    parts = [true, extra, *bots]
    joined = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in _ROW_FIELDS}
    return Rows(**joined).take(np.argsort(np.concatenate(places), kind="stable"))


def _true_rows(block: Block, steps: Steps) -> Rows:
    tape, clock = block.tape, block.clock
    rating = 3.4 + 0.9 * block.world.quality[steps.item] + 0.35 * steps.charm
    rating = np.clip(np.round(rating + 1.6 * (tape[:, COLUMN["rating"]] - 0.5)), 1, 5)
    return Rows(
        user=clock.user,
        time=clock.time,
        action=steps.action,
        item=steps.item,
        session=clock.session,
        rating=np.where(steps.action == RATE, rating, np.nan),
        query_draw=tape[:, COLUMN["query"]],
        dirt=np.full(len(tape), -1),
    )


def _bot_rows(world: World, people: People, row: int) -> Rows:
    time, action, item = dirt.bot_events(world, people, row)
    number = len(time)
    return Rows(
        user=np.full(number, row),
        time=time,
        action=action,
        item=item,
        session=np.zeros(number, np.int64),
        rating=np.full(number, np.nan),
        query_draw=np.zeros(number),
        dirt=np.full(number, -1),
    )


def events_batch(block: Block, rows: Rows, items: np.ndarray, titles: list[str]) -> pa.RecordBatch:
    """Gives rows their names and makes them a record batch of `EVENT_SCHEMA`."""
    world, names = block.world, block.names
    shown = np.where(rows.dirt == dirt.NULL_ITEM, VIEW, rows.action)  # a null item must be a fault
    no_item = (rows.action == SEARCH) | (rows.dirt == dirt.NULL_ITEM)
    item = np.where(no_item, 0, rows.item)
    price = world.price[item] * np.exp(-world.log_discount(item, rows.time))
    action = np.where(rows.dirt == dirt.UNKNOWN_ACTION, len(ACTIONS), shown)
    columns = [
        look_up(names, rows.user, mask=rows.dirt == dirt.NULL_USER),
        look_up(items, item, mask=no_item),
        look_up((*ACTIONS, dirt.UNKNOWN_ACTION_NAME), action),
        pa.array(rows.time, pa.int64()),
        _session_names(rows, names),
        _queries(rows, shown, titles),
        pa.array(rows.rating, pa.float32(), mask=np.isnan(rows.rating)),
        pa.array(price, pa.float32(), mask=no_item),
        look_up(words.DEVICES, block.people.device[rows.user]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def _session_names(rows: Rows, names: np.ndarray) -> pa.Array:
    """Names sessions by user and number, each string made once."""
    key = rows.user * (1 << 20) + rows.session
    known, index = np.unique(key, return_inverse=True)
    texts = [f"{names[k >> 20]}-s{k & 0xFFFFF}" for k in known.tolist()]
    return look_up(texts, index)


def _queries(rows: Rows, shown: np.ndarray, titles: list[str]) -> pa.Array:
    """Writes the words of searches: the leaf's name, often with a style word or the brand."""
    texts, place = [], np.full(len(shown), -1)
    searches = np.flatnonzero(shown == SEARCH)
    place[searches] = np.arange(len(searches))
    for row in searches.tolist():
        brand, *styles_and_leaf = titles[rows.item[row]].split()
        styles, leaf = styles_and_leaf[:3], " ".join(styles_and_leaf[3:])
        draw = rows.query_draw[row]
        style = styles[int(draw * 30) % 3]
        if draw < 0.4:
            texts.append(leaf)
        elif draw < 0.8:
            texts.append(f"{style} {leaf}")
        else:
            texts.append(f"{brand.lower()} {leaf}")
    return look_up(texts, np.maximum(place, 0), mask=place < 0)
