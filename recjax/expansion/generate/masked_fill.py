"""Strategy `masked_fill`: short real users, hidden and new places filled by a masked-item model.

The model is one that an earlier run has pretrained: this is a second round of expansion, with the
checkpoint of the first as its input. Some events of a user are hidden and filled with another item
than theirs; new places between events, of the action of the one before, are filled too. Places are
filled in random order, each in view of those filled before.

Reference:
    Sun et al. (2019), "BERT4Rec: Sequential recommendation with bidirectional encoder
    representations from transformer"; Wang and Cho (2019), "BERT has a mouth, and it must speak",
    Sec. 2, for drawing from a masked model place by place.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.transforms import bin_gaps
from recjax.expansion.edit.user_edits import choose_places, count_share
from recjax.expansion.generate.gumbel import draw_by_logits
from recjax.expansion.records import Record, RecordSource, count_items, make_record, pad_field
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

Batch = dict[str, jax.Array]
# (params, batch, places int32 [B]) -> logits float32 [B, R] of the items there. The batch has
# items, actions, gaps, positions, segments int32 [B, T] and hidden bool [B, T]: not to be read
PlaceScoreFn = Callable[[Any, Batch, jax.Array], jax.Array]
_LEAST = 2  # events of a user: one is left to be seen
_NO_PLACE = 2.0  # in an order of uniforms: never


@dataclass(frozen=True)
class MaskedModel:
    """A trained model of hidden items, and how it is drawn from.

    Attributes:
        score: pure and traceable.
        params: tree that `score` reads.
        num_rows: R, item ids, and perhaps rows that stand for none.
        num_gap_bins: G of the gaps that it reads.
        max_len: most events that it reads.
        mask_share: of a user's events that are hidden and filled anew.
        insert_share: new events, as a share of those that were there.
        temperature: 1 draws from the model, less plays safe.
        top_k: only so many likeliest items are drawn; 0: all.

    Raises:
        ValueError: if a setting is out of range, or nothing would be filled.
    """

    score: PlaceScoreFn
    params: Any
    num_rows: int
    num_gap_bins: int
    max_len: int
    mask_share: float
    insert_share: float
    temperature: float
    top_k: int

    def __post_init__(self) -> None:
        for name in ("mask_share", "insert_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"masked_fill.{name} is {getattr(self, name)}; must be in [0, 1]")
        if not self.mask_share + self.insert_share > 0:
            raise ValueError("masked_fill: mask_share and insert_share are 0, nothing is filled")
        if not self.temperature > 0:
            raise ValueError(f"masked_fill.temperature is {self.temperature}; must be above 0")
        if not 0 <= self.top_k <= self.num_rows:
            raise ValueError(
                f"masked_fill.top_k is {self.top_k}; must be 0 (all) to {self.num_rows}"
            )


@dataclass(frozen=True)
class FillState:
    """What draws need.

    Attributes:
        model: the trained model.
        source: the real users.
        users: int32 [N], places of the short ones in the source.
        width: T, most events of a draw.
        seen: bool [R], ids with a training event.
        session_gap_seconds: a longer gap opens a new session.
    """

    model: MaskedModel
    source: RecordSource
    users: np.ndarray
    width: int
    seen: np.ndarray
    session_gap_seconds: int


class MaskedFill:
    """Draws filled users, every short one in turn; `user` is the real one."""

    name = "masked_fill"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("load_masked",)

    def fit(self, data: ExpansionData, seed: int) -> FillState:
        """Returns the model of the seed and who is short; nothing is fitted anew."""
        if data.load_masked is None:
            raise ValueError(f"{self.name} needs data.load_masked, a loader of a masked model")
        model, most = data.load_masked(seed), data.short_user_events
        width = most + count_share(model.insert_share, most, int(model.insert_share > 0), most - 1)
        limit = min(data.max_len, model.max_len)
        if not _LEAST <= most or width > limit:
            raise ValueError(
                f"short_user_events is {most}; {self.name} needs at least {_LEAST}, and {width} "
                f"events of a filled user must not exceed {limit}"
            )
        number = len(data.source)
        lengths = np.array([len(data.source[user]["items"]) for user in range(number)])
        users = np.flatnonzero((lengths >= _LEAST) & (lengths <= most)).astype(np.int32)
        seen = np.zeros(model.num_rows, bool)
        seen[np.flatnonzero(count_items(data.source))] = True
        return FillState(model, data.source, users, width, seen, data.session_gap_seconds)

    def draw(self, key: jax.Array, state: FillState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n filled users, none where nobody is short; see `Strategy.draw`."""
        if not len(state.users):
            return []
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, 4 * state.width)
        open_users = [
            _open_places(state, state.source[int(user)], numbers.reshape(4, -1))
            for user, numbers in zip(chosen, uniforms, strict=True)
        ]
        row_keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 2), rows)
        items = np.asarray(_fill(state, row_keys, open_users))
        return [
            {**record, "items": items[row, : len(record["items"])].copy()}
            for row, (record, _) in enumerate(open_users)
        ]


def _open_places(
    state: FillState, record: Record, uniforms: np.ndarray
) -> tuple[Record, np.ndarray]:
    """Returns a user with new places, still of the item before, and the order of filling.

    Args:
        state: shares of hidden and new places.
        record: a short user.
        uniforms: float64 [4, T] in [0, 1).

    Returns:
        The record, and float64 [L]: places below 1 are to be filled, the smallest first.
    """
    model, length = state.model, len(record["items"])
    items, actions, times = (record[name] for name in ("items", "actions", "times"))
    hidden = np.zeros(length, bool)
    number = count_share(model.mask_share, length, int(not model.insert_share), length - 1)
    hidden[choose_places(uniforms[0, :length], number)] = True
    number = count_share(model.insert_share, length, int(not number), length - 1)
    places = choose_places(uniforms[1, : length - 1], number)
    moments = (uniforms[2, places] * (times[places + 1] - times[places])).astype(np.int64)
    opened = make_record(
        np.insert(items, places + 1, items[places]),
        np.insert(actions, places + 1, actions[places]),
        np.insert(times, places + 1, times[places] + moments),
        session_gap_seconds=state.session_gap_seconds,
        user=record["user"],
    )
    is_open = np.insert(hidden, places + 1, True)
    return opened, np.where(is_open, uniforms[3, : len(is_open)], _NO_PLACE)


def _fill(
    state: FillState, keys: jax.Array, open_users: Sequence[tuple[Record, np.ndarray]]
) -> jax.Array:
    """Returns items int32 [B, T] with all open places filled."""
    records, orders = zip(*open_users, strict=True)
    width, model = state.width, state.model
    lengths = np.array([len(order) for order in orders])
    order = np.full((len(records), width), _NO_PLACE, np.float32)
    for row, numbers in enumerate(orders):
        order[row, : len(numbers)] = numbers
    times = pad_field(records, "times", width)
    gaps = np.pad(bin_gaps(np.diff(times, axis=1), model.num_gap_bins), ((0, 0), (1, 0)))
    steps = np.broadcast_to(np.arange(width, dtype=np.int32), order.shape)
    fields = {
        "items": pad_field(records, "items", width),
        "actions": pad_field(records, "actions", width),
        "gaps": gaps,
        "positions": steps,
        "segments": steps < lengths[:, None],
    }
    batch = {name: jnp.asarray(value, jnp.int32) for name, value in fields.items()}
    return fill_items(
        keys, model.params, batch, jnp.asarray(order), jnp.asarray(state.seen), model.temperature,
        score=model.score, top_k=model.top_k,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("score", "top_k"))
def fill_items(
    keys: jax.Array,
    params: Any,
    batch: Batch,
    order: jax.Array,
    allowed: jax.Array,
    temperature: float | jax.Array,
    *,
    score: PlaceScoreFn,
    top_k: int,
) -> jax.Array:
    """Fills places one after another, each with another item than stands there.

    Args:
        keys: typed PRNG keys [B], one per row.
        params: what `score` reads.
        batch: items, actions, gaps, positions, segments int32 [B, T].
        order: float32 [B, T], places below 1 are filled, the smallest first.
        allowed: bool [R], ids that may be drawn.
        temperature: logits are divided by it.
        score: static, see `MaskedModel`.
        top_k: static; only so many likeliest items are drawn, 0: all.

    Returns:
        int32 [B, T]; row b depends on keys[b] and its own arguments alone.
    """
    rows = jnp.arange(len(order))

    def step(state: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[Any, None]:
        items, order = state
        place = jnp.argmin(order, axis=1)
        is_open = order[rows, place] < 1
        logits = score(params, {**batch, "items": items, "hidden": order < 1}, place)
        own = jnp.arange(logits.shape[1])[None] == items[rows, place][:, None]
        logits = jnp.where(allowed[None] & ~own, logits, -jnp.inf) / temperature
        drawn = draw_by_logits(keys, number, logits, top_k=top_k)
        items = items.at[rows, place].set(jnp.where(is_open, drawn, items[rows, place]))
        return (items, order.at[rows, place].set(_NO_PLACE)), None

    steps = jnp.arange(order.shape[1], dtype=jnp.int32)
    return jax.lax.scan(step, (batch["items"], order), steps)[0][0]
