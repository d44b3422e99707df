"""Items at missing places, given states and known items: drawn forward, weighed by what follows.

Without a kernel the item of an event depends on its state alone, and one draw is exact. With one,
the items that follow depend on it too: of M candidates from p(item | state, previous items) one is
kept in proportion to how well it explains the known items among the W that follow. Pure and
traced; arrays are time-major [T, B]. Called by `conditional` and `bound`.

Reference:
    Rubin (1988), "Using the SIR algorithm to simulate posterior distributions".
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax.hmm.events import or_one, take_rows
from recjax.hmm.item_draws import draw_candidates, draw_items
from recjax.hmm.kernel_explanation import follow_pair
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import draw_index
from recjax.hmm.tables import SamplingTables
from recjax.hmm.words import RowWords


def draw_missing_items(
    tables: SamplingTables,
    words: RowWords,
    states: jax.Array,
    items: jax.Array,
    missing: jax.Array,
    *,
    num_candidates: int,
    no_repeats: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Draws the missing items, in order of time.

    Args:
        tables: what to draw from; how well a candidate explains what follows is judged by their
            model, without temperature and allowed set.
        words: random words.
        states: int32 [T, B].
        items: int32 [T, B], -1 where there is no event, and at missing places; an item given there
            is held for known by those before it, until it is drawn anew.
        missing: bool [T, B], where to draw.
        num_candidates: static M; exact, given the states and the items before, as M grows.
        no_repeats: static; candidates that stand elsewhere in the row are not kept.

    Returns:
        items int32 [T, B], and bool [T, B]: False at missing places where, with `no_repeats`, no
        candidate was new; the item there is -1.
    """
    if tables.kernel is None and not no_repeats:
        none = jnp.zeros((states.shape[1], 0), jnp.int32)
        lengths = jnp.full(states.shape[1], states.shape[0], jnp.int32)
        drawn, _ = draw_items(tables, words, states, lengths, none, None, False)
        return jnp.where(missing, drawn, items), jnp.ones_like(missing)
    width = 0 if tables.kernel is None else tables.kernel.lags.shape[0]

    def step(
        grid: jax.Array, event: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        time, wanted = event
        place = _Place.of(grid, padded_states, time, width)
        follows = jnp.full_like(wanted, no_repeats) | (place.following >= 0).any(0)

        def draw(num: int) -> tuple[jax.Array, jax.Array]:
            drawn = draw_candidates(tables, words, place.state, place.window, time, num)
            fits = jnp.ones(drawn.shape)
            if no_repeats:
                fits *= (grid[:, None, :] != drawn[None]).all(0)
            weights = fits * _explanation(tables.params, place, drawn)
            weights = jnp.where((weights > 0).any(0), weights, fits)  # none leads on: any will do
            choice = draw_index(weights.T, words.uniform("pick", time))
            choice = jnp.where(follows, choice, 0)  # else all are alike, and one is enough
            item = jnp.take_along_axis(drawn, choice[None], axis=0)[0]
            is_found = jnp.take_along_axis(weights, choice[None], axis=0)[0] > 0
            return item, is_found if no_repeats else jnp.ones_like(is_found)

        level = wanted.any().astype(jnp.int32) + (wanted & follows).any()
        nothing = (jnp.zeros_like(place.state), wanted)
        drawn, found = jax.lax.switch(
            level, [lambda: nothing, lambda: draw(1), lambda: draw(num_candidates)]
        )
        item = jnp.where(wanted, jnp.where(found, drawn, -1), place.item)
        grid = jax.lax.dynamic_update_slice_in_dim(grid, item[None], time + width, axis=0)
        return grid, (item, found | ~wanted)

    around = ((width, width), (0, 0))
    grid = jnp.pad(items, around, constant_values=-1)
    padded_states = jnp.pad(states, around)
    times = jnp.arange(states.shape[0], dtype=jnp.int32)
    _, (items, found) = jax.lax.scan(step, grid, (times, missing))
    return items, found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Place:
    """One place of every row, and what stands around it.

    Attributes:
        time: int32 [].
        item: int32 [B], -1 if missing.
        state: int32 [B].
        window: int32 [W, B], previous items, newest first, -1 for none.
        following: int32 [W, B], items that follow, oldest first; -1: none or not known.
        states: int32 [W, B], their states.
    """

    time: jax.Array
    item: jax.Array
    state: jax.Array
    window: jax.Array
    following: jax.Array
    states: jax.Array

    @classmethod
    def of(cls, grid: jax.Array, states: jax.Array, time: jax.Array, width: int) -> _Place:
        """Cuts the place out of items and states [W + T + W, B]; width: static W."""
        items = jax.lax.dynamic_slice_in_dim(grid, time, 2 * width + 1)
        states = jax.lax.dynamic_slice_in_dim(states, time, 2 * width + 1)
        before, after = items[:width], items[width + 1 :]
        return cls(time, items[width], states[width], before[::-1], after, states[width + 1 :])


def _explanation(params: HmmParams, place: _Place, candidates: jax.Array) -> jax.Array:
    """p(known following items | candidate) float32 [M, B], each factor over its largest value.

    Only the lag that points at the candidate differs between candidates: the other lags are looked
    up once for all.
    """
    kernel, width = params.kernel, place.following.shape[0]
    if kernel is None:
        return jnp.ones(candidates.shape)
    lags, steps = jnp.asarray(kernel.lags)[:, None, None], jnp.arange(width)
    gap = jnp.full_like(place.following[:1], -1)  # the place itself
    line = jnp.concatenate([place.window[::-1], gap, place.following])
    previous = line[width + 1 + steps[:, None] - (1 + steps)[None, :]]
    after = place.following[:, None]
    others = follow_pair(kernel, previous, jnp.broadcast_to(after, previous.shape))
    weighted, weight = _mixed(*others, jnp.swapaxes(lags, 0, 1), axis=1)
    grid = (width, *candidates.shape)
    here = follow_pair(
        kernel, jnp.broadcast_to(candidates[None], grid), jnp.broadcast_to(after, grid)
    )
    own_part, own_weight = _mixed(*here, lags, axis=None)
    weighted, weight = weighted[:, None] + own_part, weight[:, None] + own_weight
    own = params.items.rows(jnp.maximum(place.following, 0))
    own = jnp.take_along_axis(own, place.states[..., None], axis=-1)[..., 0]
    mix = jnp.where(weight > 0, take_rows(params.mix, place.states)[:, None], 0.0)
    given = (1.0 - mix) * own[:, None] + mix * weighted / or_one(weight)
    given = jnp.where(after >= 0, given, 1.0)
    return (given / or_one(given.max(1, keepdims=True))).prod(0)


def _mixed(
    probability: jax.Array, usable: jax.Array, lags: jax.Array, axis: int | None
) -> tuple[jax.Array, jax.Array]:
    """Lag weights times probabilities, and lag weights, of usable lags; summed over an axis."""
    odds = jnp.where(usable, lags, 0.0)
    weighted = odds * probability
    return (weighted, odds) if axis is None else (weighted.sum(axis), odds.sum(axis))
