"""Strategy `transformer`: whole new users drawn item by item from a causal sequence model.

The neural rival of the HMM. Whoever hands in `ExpansionData.train_next_item` trains the model, on
real users. First items, lengths, actions and times are the log's own (`habits`): actions and gaps
are drawn first, and the model reads them beside the items so far. Items are drawn by the model's
probabilities with the Gumbel-max trick; ids without a training event have none.

Reference:
    Kang and McAuley (2018), "Self-attentive sequential recommendation"; Maddison, Tarlow and Minka
    (2014), "A* sampling", Sec. 2 (Gumbel-max).
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
from recjax.expansion.generate.habits import Habits, fit_habits
from recjax.expansion.records import Record, count_items
from recjax.expansion.strategy import ExpansionData, draw_uniforms

Batch = dict[str, jax.Array]
# (params, batch) -> logits float32 [B, R] of what follows the last event. The batch has items,
# actions, gaps, positions, segments int32 [B, T] and lengths int32 [B]; segments are 1 on events
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

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"transformer.temperature is {self.temperature}; must be above 0")
        if not 0 <= self.top_k <= self.num_rows:
            raise ValueError(
                f"transformer.top_k is {self.top_k}; must be 0 (all) to {self.num_rows}"
            )


@dataclass(frozen=True)
class TransformerState:
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


class Transformer:
    """Draws whole users from a trained model of the next item."""

    name = "transformer"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("train_next_item",)

    def fit(self, data: ExpansionData, seed: int) -> TransformerState:
        """Returns the model of the seed, trained or taken up, and the log's habits."""
        if data.train_next_item is None:
            raise ValueError(f"{self.name} needs data.train_next_item, a trainer")
        model = data.train_next_item(seed)
        max_len = min(data.max_len, model.max_len)
        habits = fit_habits(data.source, max_len, data.session_gap_seconds)
        seen = np.zeros(model.num_rows, bool)
        seen[np.flatnonzero(count_items(data.source))] = True
        return TransformerState(model, sum_before(count_first_items(data.source)), seen, habits)

    def draw(
        self, key: jax.Array, state: TransformerState, n: int, first_row: int
    ) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        model = state.model
        outlines = state.habits.draw(jax.random.fold_in(key, 0), first_row, n)
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, 1)[:, 0]
        gaps = bin_gaps(np.diff(outlines.times, axis=1), model.num_gap_bins)
        rows = jnp.arange(first_row, first_row + n)
        items = draw_items(
            jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 2), rows),
            model.params,
            jnp.asarray(draw_counted(state.begins, uniforms), jnp.int32),
            jnp.asarray(outlines.actions, jnp.int32),
            jnp.pad(jnp.asarray(gaps), ((0, 0), (1, 0))),
            jnp.asarray(state.seen),
            model.temperature,
            score=model.score,
            top_k=model.top_k,
        )
        return outlines.fill_in(np.asarray(items))


@functools.partial(jax.jit, static_argnames=("score", "top_k"))
def draw_items(
    keys: jax.Array,
    params: Any,
    first_items: jax.Array,
    actions: jax.Array,
    gaps: jax.Array,
    allowed: jax.Array,
    temperature: float | jax.Array,
    *,
    score: ScoreFn,
    top_k: int,
) -> jax.Array:
    """Draws the items of users one place after another; the whole history is read each time.

    Args:
        keys: typed PRNG keys [B], one per row.
        params: what `score` reads.
        first_items: int32 [B].
        actions: int32 [B, T], of all places.
        gaps: int32 [B, T], bins, of all places.
        allowed: bool [R], ids that may be drawn.
        temperature: logits are divided by it.
        score: static, see `NextItemModel`.
        top_k: static; only so many likeliest items are drawn, 0: all.

    Returns:
        int32 [B, T]; row b depends on keys[b] and its own arguments alone.
    """
    shape = actions.shape
    steps = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32)[None], shape)

    def step(items: jax.Array, place: jax.Array) -> tuple[jax.Array, None]:
        batch = {
            "items": items,
            "actions": actions,
            "gaps": gaps,
            "positions": steps,
            "segments": (steps < place).astype(jnp.int32),
            "lengths": jnp.full(shape[0], place, jnp.int32),
        }
        logits = jnp.where(allowed[None], score(params, batch), -jnp.inf) / temperature
        if top_k:
            least = jax.lax.top_k(logits, top_k)[0][:, -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        drawn = jnp.argmax(logits + _gumbel(keys, place, logits.shape[1]), axis=1)
        return items.at[:, place].set(drawn.astype(jnp.int32)), None

    items = jnp.zeros(shape, jnp.int32).at[:, 0].set(first_items)
    return jax.lax.scan(step, items, jnp.arange(1, shape[1], dtype=jnp.int32))[0]


def _gumbel(keys: jax.Array, place: jax.Array, size: int) -> jax.Array:
    """Returns float32 [B, R], standard Gumbel noise of one place."""
    return jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, place), (size,)))(keys)
