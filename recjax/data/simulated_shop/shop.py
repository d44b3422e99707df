"""`SimulatedShop`: the one door to the simulated shop.

Here: blocks of users, streams, files, look-ups by name. Not here: any rule of the process. Called
by the prepare stage, the data set builder, the evaluation (oracle) and the ceiling arm of the
expansion.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.simulated_shop import dirt, event_rows, oracle, tables, words, writer
from recjax.data.simulated_shop.blocks import (
    draw_block,
    draw_fresh_block,
    draw_registered,
    user_names,
)
from recjax.data.simulated_shop.config import ACTIONS, SEARCH, ShopConfig
from recjax.data.simulated_shop.population import draw_tape
from recjax.data.simulated_shop.world import build_world

_BLOCK_USERS = 4096  # users simulated side by side where the caller has no say


class SimulatedShop:
    """A shop whose truth is known; the same config gives the same bytes.

    Every user is an independent stream of random numbers, so that blocks of any size and single
    users come out the same. Memory grows with the block and the catalogue, not with the log.

    Example:
        >>> shop = SimulatedShop(ShopConfig(num_users=20, num_items=40, num_days=7))
        >>> shop.catalogue().num_rows
        40
        >>> next(shop.event_batches()).schema.names[:4]
        ['user_id', 'item_id', 'action', 'timestamp']
    """

    def __init__(self, config: ShopConfig) -> None:
        self.config = config
        self.world = build_world(config)
        self._items = tables.item_names(self.world)
        self._titles = words.titles(self.world.vector, self.world.leaf, self.world.brand)

    def catalogue(self) -> pa.Table:
        """Returns the catalogue, one row per item, in the order of the oracle's columns.

        Columns: item_id, title, category (path), brand, price, image_vector, launch_time (s).
        """
        return tables.catalogue_table(self.world, self._items, self._titles)

    def graph(self) -> pa.Table:
        """Returns head, relation, tail triples: has_brand, in_category, complement."""
        return tables.graph_table(self.world, self._items)

    def users(self) -> pa.Table:
        """Returns all users with attributes, bots included; see `user_batches` for large shops."""
        return pa.Table.from_batches(self.user_batches(), tables.USER_SCHEMA)

    def user_batches(self, batch_users: int = _BLOCK_USERS) -> Iterator[pa.RecordBatch]:
        """Streams user_id, segment, age_band, region, device, valid_from (s)."""
        for users in self._ranges(batch_users):
            people, _ = draw_registered(self.world, users)
            yield tables.users_batch(people, user_names(users))

    def event_batches(self, batch_users: int = _BLOCK_USERS) -> Iterator[pa.RecordBatch]:
        """Streams the behaviour log, bots and spoiled rows included, user after user.

        Args:
            batch_users: users per batch; the rows do not depend on it. Blocks of thousands are
                several times faster than small ones.

        Yields:
            user_id, item_id, action, timestamp (int64 s), session_id, query, rating, price,
            platform.
        """
        for users in self._ranges(batch_users):
            block = draw_block(self.world, users)
            rows = event_rows.event_rows(block, block.simulate())
            yield event_rows.events_batch(block, rows, self._items, self._titles)

    def impression_batches(self, batch_users: int = _BLOCK_USERS) -> Iterator[pa.RecordBatch]:
        """Streams shown items: where, clicked or not, with what odds.

        Yields:
            impression_id (of the strip), user_id, item_id, timestamp (int64 s), position (0 first),
            label (clicked), propensity (the policy's chance to show this item at this place),
            true_click_probability.
        """
        for users in self._ranges(batch_users):
            yield self._batches(users)["impressions"]

    def write(self, folder: str | Path, batch_users: int = _BLOCK_USERS) -> dict[str, Path]:
        """Writes events, catalogue, users, graph and impressions as Parquet, streamed.

        A file appears under its name only when it is whole. Equal configs and library versions give
        equal bytes.

        Args:
            folder: made if missing.
            batch_users: users per row group.

        Returns:
            Paths by name: "events", "catalogue", "users", "graph", "impressions".
        """
        folder = Path(folder)
        schemas = {
            "events": event_rows.EVENT_SCHEMA,
            "impressions": tables.IMPRESSION_SCHEMA,
            "users": tables.USER_SCHEMA,
        }
        with writer.files_that_appear_whole(folder) as beside:
            blocks = (self._batches(users) for users in self._ranges(batch_users))
            writer.write_streams(beside, schemas, blocks)
            pq.write_table(self.catalogue(), beside["catalogue"])
            pq.write_table(self.graph(), beside["graph"])
        return {name: folder / f"{name}.parquet" for name in writer.NAMES}

    def bot_ids(self) -> list[str]:
        """Names the users that are bots (truth, for tests of cleaning)."""
        numbers = np.arange(self.config.num_users)
        return [tables.user_name(n) for n in numbers[dirt.is_bot(self.config, numbers)].tolist()]

    def dirty_counts(self) -> dict[str, int]:
        """Counts the spoiled extra rows of the whole log by kind (truth, for tests of cleaning).

        Returns:
            Counts for "duplicate" (exact copy), "old_clock" (1970), "future_clock" (2099),
            "null_user", "unknown_action", "null_item" (a view without an item).
        """
        counts = np.zeros(len(dirt.DIRT_KINDS), np.int64)
        for users in self._ranges(_BLOCK_USERS):
            people, _ = draw_registered(self.world, users)
            kinds = dirt.dirt_kinds(self.config, draw_tape(people))
            counts += np.bincount(kinds[kinds >= 0], minlength=len(counts))
        return dict(zip(dirt.DIRT_KINDS, counts.tolist(), strict=True))

    def oracle_next_item(
        self,
        user_ids: Sequence[str],
        timestamps: np.ndarray,
        actions: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Computes the true distribution of the item of events that have happened.

        The users are simulated again up to the event. The distribution knows everything the user
        has in
        mind just before the item is drawn, the current intent included, which no model can see: it
            is a
        bound, not a model to beat.

        Args:
            user_ids: n names of users that are not bots.
            timestamps: int64 [n], seconds of one of the user's events each.
            actions: what the event is known to be among, e.g. a config's target actions; None: any
                action on an item. Without "view" all mass lies on the item at hand.

        Returns:
            float32 [n, num_items], rows sum to 1, columns in catalogue order. For large catalogues
            ask in portions.

        Raises:
            ValueError: if a user has no event at that second, is a bot or does not exist.
        """
        numbers, times = self._queries(user_ids, timestamps)
        result = np.zeros((len(numbers), self.config.num_items), np.float32)
        mask = oracle.action_mask(actions)
        for users, query, rows in self._blocks_of(numbers):
            block = draw_block(self.world, users)
            slots = oracle.find_slots(block.clock, rows, times[query])
            _refuse(slots < 0, user_ids, times, query, "event")
            wanted = np.full(len(block.tape), -1)
            wanted[slots] = query
            block.simulate(oracle.ItemOracle(self.world, block.people, wanted, mask, result))
            result[query] = result[wanted[slots]]  # an event asked for twice
        return result

    def oracle_clicks(
        self, user_ids: Sequence[str], timestamps: np.ndarray, item_ids: Sequence[str]
    ) -> np.ndarray:
        """Computes the true click probability of impressions that have happened.

        Args:
            user_ids: n names.
            timestamps: int64 [n] seconds.
            item_ids: n items shown to that user at that second.

        Returns:
            float32 [n].

        Raises:
            ValueError: if there is no such impression.
        """
        numbers, times = self._queries(user_ids, timestamps)
        items = _numbers(item_ids, tables.item_name, self.config.num_items, "item")
        result = np.zeros(len(numbers), np.float32)
        for users, query, rows in self._blocks_of(numbers):
            block = draw_block(self.world, users)
            slates = block.slates()
            block.simulate(slates)
            strips = block.clock.user[slates.slots]
            chance = oracle.find_clicks(slates, strips, rows, times[query], items[query])
            _refuse(np.isnan(chance), user_ids, times, query, "impression")
            result[query] = chance
        return result

    def fresh_users(self, seed: int, n: int) -> Iterator[dict[str, Any]]:
        """Draws new users of the true process: no bots, no spoiled rows, no searches.

        They meet the shop's catalogue but none of its users; user i of a seed is always the same.

        Args:
            seed: another seed, other users (0 or more).
            n: how many; each has at least one event on an item.

        Yields:
            {"items": list of item_id, "actions": list of names, "timestamps": int64 array of
            seconds, strictly increasing}.
        """
        begin, left = 0, n
        while left > 0:
            count = min(_BLOCK_USERS, left + 8)
            for user in self._fresh_block(seed, begin, count):
                if left > 0 and user["items"]:
                    left -= 1
                    yield user
            begin += count

    def _fresh_block(self, seed: int, begin: int, count: int) -> Iterator[dict[str, Any]]:
        block = draw_fresh_block(self.world, seed, np.arange(begin, begin + count))
        steps = block.simulate()
        bounds = block.people.offsets
        names = np.array(ACTIONS, object)
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            kept = np.flatnonzero(steps.action[first:last] != SEARCH) + first
            yield {
                "items": self._items[steps.item[kept]].tolist(),
                "actions": names[steps.action[kept]].tolist(),
                "timestamps": block.clock.time[kept],
            }

    def _ranges(self, batch_users: int) -> Iterator[np.ndarray]:
        for begin in range(0, self.config.num_users, batch_users):
            yield np.arange(begin, min(begin + batch_users, self.config.num_users))

    def _batches(self, users: np.ndarray) -> dict[str, pa.RecordBatch]:
        """Makes the event, impression and user rows of a block from one simulation."""
        block = draw_block(self.world, users)
        slates = block.slates()
        rows = event_rows.event_rows(block, block.simulate(slates))
        strips = block.clock.user[slates.slots]
        return {
            "events": event_rows.events_batch(block, rows, self._items, self._titles),
            "impressions": tables.impressions_batch(slates, strips, block.names, self._items),
            "users": tables.users_batch(block.people, block.names),
        }

    def _queries(
        self, user_ids: Sequence[str], timestamps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        numbers = _numbers(user_ids, tables.user_name, self.config.num_users, "user")
        return numbers, np.asarray(timestamps, np.int64)

    def _blocks_of(
        self, numbers: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Groups queries: yields users [B], positions of their queries, rows in the block."""
        users, row = np.unique(numbers, return_inverse=True)
        for begin in range(0, len(users), _BLOCK_USERS):
            query = np.flatnonzero((row >= begin) & (row < begin + _BLOCK_USERS))
            yield users[begin : begin + _BLOCK_USERS], query, row[query] - begin


def _numbers(
    names: Sequence[str], write: Callable[[int], str], count: int, what: str
) -> np.ndarray:
    """Reads the numbers back from names, int64 [n]."""
    numbers = [int(name[1:]) if name[1:].isdecimal() else count for name in names]
    for name, number in zip(names, numbers, strict=True):
        if number >= count or name != write(number):
            raise ValueError(f"the simulated shop has no {what} {name!r}")
    return np.array(numbers, np.int64)


def _refuse(
    bad: np.ndarray, user_ids: Sequence[str], times: np.ndarray, query: np.ndarray, what: str
) -> None:
    if bad.any():
        first = int(query[np.flatnonzero(bad)[0]])
        raise ValueError(f"user {user_ids[first]!r} has no true {what} at second {times[first]}")
