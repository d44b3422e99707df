"""Draws on the device: whole users, and continuations of given users.

Row b of a draw depends on (key, first_row + b) alone: not on the number of rows, the batch split,
the devices, nor on `max_len` as far as both draws reach. Lengths come from the stop of the model.
Tables that make draws exact are built in `tables`; `draw_users` and `draw_continuations` are pure
and traceable, for use inside a train step.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.chains import draw_context, draw_states, draw_stays
from recjax.hmm.events import Array, Events
from recjax.hmm.item_draws import draw_items
from recjax.hmm.parameters import HmmParams
from recjax.hmm.prediction import next_cells, previous_items
from recjax.hmm.recursions import draw_index
from recjax.hmm.tables import SamplingTables, make_tables
from recjax.hmm.validation import validate_events, validate_segments
from recjax.hmm.words import RowWords


def sample_users(
    key: jax.Array,
    params: HmmParams | SamplingTables,
    num_rows: int,
    *,
    max_len: int,
    segments: Array | None = None,
    first_row: int = 0,
    temperature: float = 1.0,
    allowed: np.ndarray | None = None,
    no_repeats: bool = False,
) -> tuple[Events, jax.Array]:
    """Draws users from the model.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) only.
        params: the model, or its `make_tables` (built once, when many batches are drawn).
        num_rows: B, static.
        max_len: T, static; the few users that have not stopped by then end there.
        segments: int32 [B], segment of each user; None: all of segment 0.
        first_row: number of the first row, for draws in several batches.
        temperature: of the item distributions, see `make_tables`; with tables it is theirs.
        allowed: bool [V], the items that may be drawn, see `make_tables`; None: all.
        no_repeats: static; no item twice in a user. Repeats are drawn again, and a user for whom
            32 draws bring nothing new ends there.

    Returns:
        Events [B, T] (0 beyond the lengths), and states int32 [B, T], -1 there.

    Raises:
        ValueError: if a table is no distribution, a size or the temperature is out of range, a
            state is left without an item, or `allowed` comes beside tables, which hold their own.
    """
    if num_rows < 1 or max_len < 1:
        raise ValueError(f"num_rows = {num_rows}, max_len = {max_len}: expected at least 1")
    tables = tables_of(params, temperature, allowed)
    rows = jnp.asarray(first_row, jnp.int32) + jnp.arange(num_rows, dtype=jnp.int32)
    if segments is not None:
        sizes = tables.params.sizes
        validate_segments(np.asarray(segments), np.ones(num_rows, np.int32), sizes.num_segments)
        segments = jnp.asarray(segments, jnp.int32)
    return draw_users(key, tables, rows, segments=segments, max_len=max_len, no_repeats=no_repeats)


def sample_continuations(
    key: jax.Array,
    params: HmmParams | SamplingTables,
    events: Events,
    *,
    max_new: int,
    first_row: int = 0,
    temperature: float = 1.0,
    allowed: np.ndarray | None = None,
    no_repeats: bool = False,
    leave_out: bool = False,
) -> Events:
    """Draws how given users might go on, from the posterior over their state.

    Every user gets at least one new event (that he goes on is given) and then ends by the stop of
    the model, at the latest after `max_new`.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) only.
        params: the model, or its `make_tables`.
        events: histories [B, T].
        max_new: static; most new events of a user.
        first_row: number of the first row, for draws in several batches.
        temperature: of the item distributions, see `make_tables`; with tables it is theirs.
        allowed: bool [V], the items that may be drawn, see `make_tables`; None: all.
        no_repeats: static; new events bring no item that the user had or gets. A user for whom
            32 draws bring nothing new ends there, possibly without a new event.
        leave_out: static; True for whole users that the kernel was counted from: their own counts
            are taken out of it while their states are filtered, see `next_item_distribution`.

    Returns:
        Events [B, T + max_new]: each history with its continuation right behind it. Padding rows
        stay empty.

    Raises:
        ValueError: if a table is no distribution, an id or a size is out of range, a state is left
            without an item, or `allowed` comes beside tables, which hold their own.
    """
    if max_new < 1:
        raise ValueError(f"max_new = {max_new}: expected at least 1")
    tables = tables_of(params, temperature, allowed)
    validate_events(events, tables.params.sizes)
    events = jax.tree.map(jnp.asarray, events)
    rows = jnp.asarray(first_row, jnp.int32) + jnp.arange(events.items.shape[0], dtype=jnp.int32)
    return draw_continuations(
        key, tables, events, rows, max_new=max_new, no_repeats=no_repeats, leave_out=leave_out
    )


def tables_of(
    params: HmmParams | SamplingTables, temperature: float, allowed: np.ndarray | None
) -> SamplingTables:
    """Returns the tables of a model, or those given; allowed: bool [V] or None.

    Raises:
        ValueError: as `make_tables`, or if `allowed` comes beside tables, which hold their own.
    """
    if not isinstance(params, SamplingTables):
        return make_tables(params, temperature, allowed)
    if allowed is not None:
        raise ValueError("allowed: pass it to make_tables; these tables were built already")
    return params


@functools.partial(jax.jit, static_argnames=("max_len", "no_repeats"))
def draw_users(
    key: jax.Array,
    tables: SamplingTables,
    rows: jax.Array,
    *,
    max_len: int,
    segments: jax.Array | None = None,
    no_repeats: bool = False,
) -> tuple[Events, jax.Array]:
    """Draws one user per number in `rows` int32 [B]; as `sample_users`, unchecked and traceable."""
    words = RowWords.of(key, rows)
    start_row = jnp.zeros_like(rows) if segments is None else segments
    first = tables.start.draw(start_row, words.word("start", 0))
    alive = jnp.ones_like(rows, bool)
    if tables.duration is None:
        states, lengths = draw_states(tables, words, first, alive, max_len)
    else:
        left = tables.duration.draw(first, words.word("start", 1))
        states, lengths = draw_stays(tables, words, (first, left), alive, max_len)
    none = jnp.zeros((rows.shape[0], 0), jnp.int32)
    items, lengths = draw_items(tables, words, states, lengths, none, None, no_repeats)
    actions, gaps = draw_context(tables, words, states)
    events = _masked_events(items, actions, gaps.at[0].set(0), lengths)
    events = dataclasses.replace(events, segments=segments)
    real = jnp.arange(max_len)[None, :] < lengths[:, None]
    return events, jnp.where(real, states.T, -1)


@functools.partial(jax.jit, static_argnames=("max_new", "no_repeats", "leave_out"))
def draw_continuations(
    key: jax.Array,
    tables: SamplingTables,
    events: Events,
    rows: jax.Array,
    *,
    max_new: int,
    no_repeats: bool = False,
    leave_out: bool = False,
) -> Events:
    """Continues `events` [B, T]; as `sample_continuations`, unchecked and traceable."""
    words = RowWords.of(key, rows)
    cells = next_cells(tables.params, events, leave_out=leave_out)
    alive = events.lengths > 0
    if tables.duration is None:
        first = draw_index(cells, words.uniform("start", 0))
        states, lengths = draw_states(tables, words, first, alive, max_new)
    else:
        first = draw_index(cells.sum(-1), words.uniform("start", 0))
        of_first = jnp.take_along_axis(cells, first[:, None, None], axis=1)[:, 0]
        left = draw_index(of_first, words.uniform("start", 1))
        states, lengths = draw_stays(tables, words, (first, left), alive, max_new)
    window = None
    if tables.kernel is not None:
        window, _ = previous_items(tables.params, events)
    had = jnp.arange(events.items.shape[1])[None, :] < events.lengths[:, None]
    seen = jnp.where(had, events.items, -1)
    items, lengths = draw_items(tables, words, states, lengths, seen, window, no_repeats)
    new = _masked_events(items, *draw_context(tables, words, states), lengths)
    return _appended(events, new)


def _masked_events(
    items: jax.Array, actions: jax.Array, gaps: jax.Array, lengths: jax.Array
) -> Events:
    """Events [B, T] of grids [T, B], 0 beyond the lengths."""
    real = jnp.arange(items.shape[0])[:, None] < lengths[None, :]
    items, actions, gaps = (jnp.where(real, grid, 0).T for grid in (items, actions, gaps))
    return Events(items, actions, gaps, lengths)


def _appended(events: Events, new: Events) -> Events:
    """Each row of `new` right behind the row of `events`."""
    old_len, new_len = events.items.shape[1], new.items.shape[1]
    steps = jnp.arange(old_len + new_len)[None, :]
    is_old = steps < events.lengths[:, None]
    place = steps - events.lengths[:, None]
    is_new = (place >= 0) & (place < new.lengths[:, None])

    def join(old: jax.Array, fresh: jax.Array) -> jax.Array:
        old = jnp.pad(old, ((0, 0), (0, new_len)))
        fresh = jnp.take_along_axis(fresh, jnp.clip(place, 0, new_len - 1), axis=1)
        return jnp.where(is_old, old, jnp.where(is_new, fresh, 0)).astype(jnp.int32)

    return dataclasses.replace(
        events,
        items=join(events.items, new.items),
        actions=join(events.actions, new.actions),
        gaps=join(events.gaps, new.gaps),
        lengths=events.lengths + new.lengths,
    )
