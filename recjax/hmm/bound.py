"""Users bound to contain a given item, so that an item without history gets sequences around it.

A place t and a state z are drawn in proportion to how often the model puts the item there by the
states' own distributions: p(alive at t, in z) p(item | z). Then states are drawn backwards from
there by the reversed chain and forwards with the stop, then the other items. Without a kernel this
is the distribution of users around a random occurrence of the item (Palm): a user weighs as much as
he contains the item. With one, the other items follow previous ones by it, and those before the
bound item are weighed by how well they lead to it (`resampling`); how often the kernel itself
would have drawn the item is left out, because it never draws a cold one. Row b depends on
(key, first_row + b) and max_len alone.

Reference:
    Baccelli and Bremaud (2003), "Elements of Queueing Theory", Ch. 1 (Palm probability).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.chains import draw_context, draw_states
from recjax.hmm.conditional import check_conditional
from recjax.hmm.events import Array, Events, or_one, take_rows
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import draw_index
from recjax.hmm.resampling import draw_missing_items
from recjax.hmm.sampling import tables_of
from recjax.hmm.state_chain import go_on_matrix, matmul, start_rows
from recjax.hmm.tables import SamplingTables
from recjax.hmm.validation import validate_segments
from recjax.hmm.words import RowWords


def sample_bound(
    key: jax.Array,
    params: HmmParams | SamplingTables,
    bound_items: Array,
    *,
    max_len: int,
    segments: Array | None = None,
    first_row: int = 0,
    temperature: float = 1.0,
    allowed: np.ndarray | None = None,
    num_candidates: int = 16,
    no_repeats: bool = False,
) -> tuple[Events, jax.Array]:
    """Draws one user per row who has the given item.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) and max_len only.
        params: the model, or its `make_tables`.
        bound_items: int32 [B].
        max_len: T, static; users who have not stopped by then end there.
        segments: int32 [B], segment of each user; None: all of segment 0.
        first_row: number of the first row, for draws in several batches.
        temperature: of the other items, see `make_tables`; with tables it is theirs.
        allowed: bool [V], what the other items may be, see `make_tables`; None: all.
        num_candidates: static; other items tried at a place, see `sample_fills`.
        no_repeats: static; no item twice in a user. An event for which no candidate is new is left
            out.

    Returns:
        Events [B, T] (0 beyond the lengths), and the places int32 [B] of the bound items.

    Raises:
        ValueError: if a table is no distribution, an id or a size is out of range, a state is left
            without an item, `allowed` comes beside tables, the model has explicit durations, or no
            state that users reach draws the item of a row.
    """
    if max_len < 1:
        raise ValueError(f"max_len = {max_len}: expected at least 1")
    tables = tables_of(params, temperature, allowed)
    check_conditional(tables.params, num_candidates)
    items = np.asarray(bound_items)
    if segments is not None:
        segments, alive = np.asarray(segments), np.ones(items.shape, np.int32)
        validate_segments(segments, alive, tables.params.sizes.num_segments)
    _check_bound(tables.params, items, segments, max_len)
    rows = jnp.asarray(first_row, jnp.int32) + jnp.arange(items.size, dtype=jnp.int32)
    return draw_bound(
        key,
        tables,
        jnp.asarray(items, jnp.int32),
        rows,
        max_len=max_len,
        segments=None if segments is None else jnp.asarray(segments, jnp.int32),
        num_candidates=num_candidates,
        no_repeats=no_repeats,
    )


@functools.partial(jax.jit, static_argnames=("max_len", "num_candidates", "no_repeats"))
def draw_bound(
    key: jax.Array,
    tables: SamplingTables,
    bound_items: jax.Array,
    rows: jax.Array,
    *,
    max_len: int,
    segments: jax.Array | None = None,
    num_candidates: int = 16,
    no_repeats: bool = False,
) -> tuple[Events, jax.Array]:
    """Draws users of rows int32 [B]; as `sample_bound`, unchecked and traceable."""
    words = RowWords.of(key, rows)
    states, lengths, place = _draw_states(tables, words, bound_items, segments, max_len)
    steps = jnp.arange(max_len, dtype=jnp.int32)[:, None]
    is_bound, real = steps == place[None], steps < lengths[None]
    items, found = draw_missing_items(
        tables,
        words,
        states,
        jnp.where(is_bound, bound_items[None], -1),
        real & ~is_bound,
        num_candidates=num_candidates,
        no_repeats=no_repeats,
    )
    actions, gaps = draw_context(tables, words, states)
    if no_repeats:
        kept = real & found
        order = jnp.argsort(~kept, axis=0, stable=True)
        items, actions, gaps = (
            jnp.take_along_axis(grid, order, axis=0) for grid in (items, actions, gaps)
        )
        place = (kept & (steps < place[None])).sum(0, dtype=jnp.int32)
        real = steps < kept.sum(0, dtype=jnp.int32)[None]
    items, actions, gaps = (jnp.where(real, grid, 0).T for grid in (items, actions, gaps))
    lengths = real.sum(0, dtype=jnp.int32)
    return Events(items, actions, gaps.at[:, 0].set(0), lengths, segments), place


def _draw_states(
    tables: SamplingTables,
    words: RowWords,
    bound_items: jax.Array,
    segments: jax.Array | None,
    max_len: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws states int32 [T, B], lengths int32 [B], and the places int32 [B] of the bound items."""
    params, times = tables.params, jnp.arange(max_len, dtype=jnp.int32)[:, None]
    alive = _occupancy(params, segments, max_len)
    own = jnp.where(alive.sum(0) > 0, params.items.rows(bound_items), 0.0)
    own = own / or_one(own.max(-1, keepdims=True))
    place = draw_index((alive * own[None]).sum(-1).T, words.uniform("start", 0))
    towards = go_on_matrix(params).T

    def step(
        later: jax.Array, event: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        time, here, uniform = event
        here = here / or_one(here.max(-1, keepdims=True))  # few are alive late
        factor = jnp.where((time == place)[:, None], own, take_rows(towards, later))
        state = draw_index(here * factor, uniform)
        return state, state

    uniforms = words.uniform("back", times)
    _, before = jax.lax.scan(step, jnp.zeros_like(place), (times, alive, uniforms), reverse=True)
    first = jnp.take_along_axis(before, place[None], axis=0)[0]
    after, num_after = draw_states(tables, words, first, jnp.ones_like(place, bool), max_len)
    after = jnp.take_along_axis(after, jnp.maximum(times - place[None], 0), axis=0)
    states = jnp.where(times <= place[None], before, after)
    return states, jnp.minimum(place + num_after, max_len), place


def _occupancy(params: HmmParams, segments: jax.Array | None, num_steps: int) -> jax.Array:
    """p(alive at t, in state z), float32 [T, B, K], or [T, 1, K] of all rows without segments."""
    go_on = go_on_matrix(params)

    def step(alive: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return matmul(alive, go_on), alive

    return jax.lax.scan(step, start_rows(params, segments), None, length=num_steps)[1]


def _check_bound(
    params: HmmParams, items: np.ndarray, segments: np.ndarray | None, max_len: int
) -> None:
    if items.ndim != 1 or not np.issubdtype(items.dtype, np.integer):
        raise ValueError(f"bound_items is {items.dtype} {items.shape}: expected whole numbers [B]")
    num_items = params.items.num_items
    wrong = np.flatnonzero((items < 0) | (items >= num_items))
    if wrong.size:
        raise ValueError(
            f"bound_items[{wrong[0]}] = {items[wrong[0]]}: expected 0 <= item < {num_items}"
        )
    reached = _reached(params, max_len)
    reached = reached[np.zeros_like(items) if segments is None else segments]
    own = np.asarray(params.items.rows(jnp.asarray(items)))
    wrong = np.flatnonzero(~((own > 0) & reached).any(1))
    if wrong.size:
        raise ValueError(
            f"bound_items[{wrong[0]}] = {items[wrong[0]]}: no state that a user reaches within "
            f"{max_len} events draws it"
        )


def _reached(params: HmmParams, num_steps: int) -> np.ndarray:
    """Whether a user of each segment can be in each state, bool [S, K]."""
    leads = np.asarray((1.0 - params.stop)[:, None] * params.transition) > 0
    reached = np.asarray(params.start) > 0
    for _ in range(num_steps - 1):
        wider = reached | (reached @ leads)
        if (wider == reached).all():
            break
        reached = wider
    return reached
