"""Whole new users drawn item by item from a trained neural model of the next item.

Whoever hands in `ExpansionData.train_next_item` trains the model, on real users. Lengths, actions
and times are the log's own (`habits`): actions and gaps are drawn first, and the model reads them
beside the items so far. Items are drawn by the model's probabilities; ids without a training event
have none. Called by the strategies that differ in the model (`transformer`, `sequence_vae`,
`sequence_gan`).
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.transforms import bin_gaps
from recjax.expansion.generate.counted import count_first_items, draw_counted, sum_before
from recjax.expansion.generate.gumbel import draw_by_logits
from recjax.expansion.generate.habits import Habits, fit_habits
from recjax.expansion.records import Record, count_items
from recjax.expansion.strategy import ExpansionData, draw_uniforms

Batch = dict[str, jax.Array]
_LATENT = 1 << 30  # the number of a draw that is no place of a user
# (params, batch) -> logits float32 [B, R] of what follows the last event. The batch has items,
# actions, gaps, positions, segments int32 [B, T] and lengths int32 [B]; segments are 1 on events.
# With latent vectors it has latent float32 [B, Z] too, and lengths may be 0
ScoreFn = Callable[[Any, Batch], jax.Array]


@dataclass(frozen=True)
class NextItemModel:
    """A trained model of the next item, and how it is drawn from.

    Attributes:
        score: pure and traceable.
        params: tree that `score` reads.
        num_rows: R, item ids, and perhaps rows that stand for none.
        num_gap_bins: G of the gaps that it reads.
        max_len: most events that it reads.
        temperature: 1 draws from the model, less plays safe.
        top_k: only so many likeliest items are drawn; 0: all.
        latent_dim: Z, numbers of the standard normal vector that a user begins with; 0: none, and
            first items are those of real users.

    Raises:
        ValueError: if temperature or top_k is out of range.
    """

    score: ScoreFn
    params: Any
    num_rows: int
    num_gap_bins: int
    max_len: int
    temperature: float
    top_k: int
    latent_dim: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; must be above 0")
        if not 0 <= self.top_k <= self.num_rows:
            raise ValueError(f"top_k is {self.top_k}; must be 0 (all) to {self.num_rows}")


@dataclass(frozen=True)
class DrawState:
    """What draws need.

    Attributes:
        model: the trained model.
        begins: int64 [largest first item + 2], users whose first item has an id below this one.
        seen: bool [R], ids with a training event.
        habits: of the real users.
    """

    model: NextItemModel
    begins: np.ndarray
    seen: np.ndarray
    habits: Habits


class ItemByItem:
    """The half of a strategy that all neural models have in common."""

    name: str
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("train_next_item",)

    def fit(self, data: ExpansionData, seed: int) -> DrawState:
        """Returns the model of the seed, trained or taken up, and the log's habits."""
        if data.train_next_item is None:
            raise ValueError(f"{self.name} needs data.train_next_item, a trainer")
        model = data.train_next_item(self.name, seed)
        max_len = min(data.max_len, model.max_len)
        habits = fit_habits(data.source, max_len, data.session_gap_seconds)
        seen = np.zeros(model.num_rows, bool)
        seen[np.flatnonzero(count_items(data.source))] = True
        return DrawState(model, sum_before(count_first_items(data.source)), seen, habits)

    def draw(self, key: jax.Array, state: DrawState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        model = state.model
        outlines = state.habits.draw(jax.random.fold_in(key, 0), first_row, n)
        gaps = bin_gaps(np.diff(outlines.times, axis=1), model.num_gap_bins)
        rows = jnp.arange(first_row, first_row + n)
        items = draw_items(
            jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 2), rows),
            model.params,
            _draw_beginnings(jax.random.fold_in(key, 1), state, n, first_row),
            jnp.asarray(outlines.actions, jnp.int32),
            jnp.pad(jnp.asarray(gaps), ((0, 0), (1, 0))),
            jnp.asarray(state.seen),
            model.temperature,
            score=model.score,
            top_k=model.top_k,
            latent_dim=model.latent_dim,
        )
        return outlines.fill_in(np.asarray(items))


def _draw_beginnings(key: jax.Array, state: DrawState, n: int, first_row: int) -> jax.Array | None:
    """Returns first items int32 [B] of real users; None where the model draws them."""
    if state.model.latent_dim:
        return None
    uniforms = draw_uniforms(key, first_row, n, 1)[:, 0]
    return jnp.asarray(draw_counted(state.begins, uniforms), jnp.int32)


@functools.partial(jax.jit, static_argnames=("score", "top_k", "latent_dim"))
def draw_items(
    keys: jax.Array,
    params: Any,
    first_items: jax.Array | None,
    actions: jax.Array,
    gaps: jax.Array,
    allowed: jax.Array,
    temperature: float | jax.Array,
    *,
    score: ScoreFn,
    top_k: int,
    latent_dim: int = 0,
) -> jax.Array:
    """Draws the items of users one place after another; the whole history is read each time.

    Args:
        keys: typed PRNG keys [B], one per row.
        params: what `score` reads.
        first_items: int32 [B]; None: drawn like the others.
        actions: int32 [B, T], of all places.
        gaps: int32 [B, T], bins, of all places.
        allowed: bool [R], ids that may be drawn.
        temperature: logits are divided by it.
        score: static, see `NextItemModel`.
        top_k: static; only so many likeliest items are drawn, 0: all.
        latent_dim: static, Z; 0: the batch has no latent vectors.

    Returns:
        int32 [B, T]; row b depends on keys[b] and its own arguments alone.
    """
    shape = actions.shape
    latent = _draw_latent(keys, latent_dim)
    steps = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32)[None], shape)

    def step(items: jax.Array, place: jax.Array) -> tuple[jax.Array, None]:
        batch = {
            "items": items,
            "actions": actions,
            "gaps": gaps,
            "positions": steps,
            "segments": (steps < place).astype(jnp.int32),
            "lengths": jnp.full(shape[0], place, jnp.int32),
            **latent,
        }
        logits = jnp.where(allowed[None], score(params, batch), -jnp.inf) / temperature
        drawn = draw_by_logits(keys, place, logits, top_k=top_k)
        return items.at[:, place].set(drawn), None

    items, given = jnp.zeros(shape, jnp.int32), 0
    if first_items is not None:
        items, given = items.at[:, 0].set(first_items), 1
    return jax.lax.scan(step, items, jnp.arange(given, shape[1], dtype=jnp.int32))[0]


def _draw_latent(keys: jax.Array, size: int) -> Batch:
    """Returns the vectors float32 [B, Z] that users begin with, nothing where there are none."""
    if not size:
        return {}
    draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, _LATENT), (size,)))
    return {"latent": draw(keys)}
