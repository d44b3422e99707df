"""Draws given part of a user: events in the middle (fills), or in front (prefixes).

States are drawn from their joint posterior given all that is known (forward filter, backward
sample), then what is missing given the states (`resampling`). Without a kernel this is exact:
p(fill | rest). With one there are two approximations. A missing item is chosen among M candidates:
exact, given the states and the other items, as M grows. And states are drawn while missing items
are not known yet: a lag that points at one cannot be used, so the kernel explains an event by the
known items alone. Further sweeps remove this: states are drawn given the items, then items given
the states, which is a Gibbs sampler of p(fill | rest). Row b depends on (key, first_row + b) alone.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.chains import draw_context
from recjax.hmm.emissions import observe
from recjax.hmm.events import Array, Events, Layout, lay_out, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import forward, sample_path
from recjax.hmm.resampling import draw_missing_items
from recjax.hmm.sampling import tables_of
from recjax.hmm.tables import SamplingTables
from recjax.hmm.validation import validate_events
from recjax.hmm.words import RowWords


def sample_fills(
    key: jax.Array,
    params: HmmParams | SamplingTables,
    events: Events,
    missing: Array,
    *,
    missing_gaps: Array | None = None,
    first_row: int = 0,
    temperature: float = 1.0,
    allowed: np.ndarray | None = None,
    num_candidates: int = 16,
    num_sweeps: int = 1,
) -> Events:
    """Draws the events of which nothing is known, given all others and the length.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) only.
        params: the model, or its `make_tables`.
        events: users [B, T]; what stands at missing places is not read.
        missing: bool [B, T], events whose item, action and gap are to be drawn; not read beyond
            the lengths.
        missing_gaps: bool [B, T], further events of which all is known but the gap, which is drawn:
            those right behind events that nobody saw; None: no event.
        first_row: number of the first row, for draws in several batches.
        temperature: of the item distributions, see `make_tables`; with tables it is theirs.
        allowed: bool [V], the items that may be drawn, see `make_tables`; None: all.
        num_candidates: static; items tried at a place that known items follow. Read with a kernel
            only; more are nearer to the model and cost in proportion.
        num_sweeps: how often states and items are drawn, each time given the items drawn
            before. Read with a kernel only; see the head of this file.

    Returns:
        Events [B, T], 0 beyond the lengths; the gap of a first event is 0.

    Raises:
        ValueError: if a table is no distribution, an id or a size is out of range, a state is left
            without an item, `allowed` comes beside tables, which hold their own, or the model has
            explicit durations.
    """
    tables = tables_of(params, temperature, allowed)
    check_conditional(tables.params, num_candidates, num_sweeps)
    missing = _checked_mask("missing", missing, events)
    nothing = np.zeros_like(missing) if missing_gaps is None else missing_gaps
    missing_gaps = _checked_mask("missing_gaps", nothing, events)
    validate_events(_without(events, missing, missing_gaps), tables.params.sizes)
    events = jax.tree.map(jnp.asarray, events)
    rows = jnp.asarray(first_row, jnp.int32) + jnp.arange(missing.shape[0], dtype=jnp.int32)
    return draw_fills(
        key,
        tables,
        events,
        missing,
        rows,
        missing_gaps=missing_gaps,
        num_candidates=num_candidates,
        num_sweeps=num_sweeps,
    )


def sample_prefixes(
    key: jax.Array,
    params: HmmParams | SamplingTables,
    events: Events,
    num_new: Array | int,
    *,
    first_row: int = 0,
    temperature: float = 1.0,
    allowed: np.ndarray | None = None,
    num_candidates: int = 16,
    num_sweeps: int = 1,
) -> Events:
    """Draws what given users might have done before: the fill whose first places are missing.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) only.
        params: the model, or its `make_tables`.
        events: users [B, T].
        num_new: int32 [B], events to invent in front of each user, or one number for all.
        first_row: number of the first row, for draws in several batches.
        temperature: of the item distributions, see `make_tables`; with tables it is theirs.
        allowed: bool [V], the items that may be drawn, see `make_tables`; None: all.
        num_candidates: static, see `sample_fills`.
        num_sweeps: see `sample_fills`.

    Returns:
        Events [B, T + max(num_new)], each user right behind his new events. The gap of his once
        first event is drawn too, where anything is now before it. Padding rows stay empty.

    Raises:
        ValueError: if a table is no distribution, an id or a size is out of range, a state is left
            without an item, `allowed` comes beside tables, which hold their own, or the model has
            explicit durations.
    """
    tables = tables_of(params, temperature, allowed)
    check_conditional(tables.params, num_candidates, num_sweeps)
    validate_events(events, tables.params.sizes)
    num_rows = events.items.shape[0]
    counts = _checked_counts(num_new, num_rows)
    events = jax.tree.map(jnp.asarray, events)
    rows = jnp.asarray(first_row, jnp.int32) + jnp.arange(num_rows, dtype=jnp.int32)
    return draw_prefixes(
        key,
        tables,
        events,
        jnp.asarray(counts),
        rows,
        max_new=int(counts.max(initial=0)),
        num_candidates=num_candidates,
        num_sweeps=num_sweeps,
    )


@functools.partial(jax.jit, static_argnames="num_candidates")
def draw_fills(
    key: jax.Array,
    tables: SamplingTables,
    events: Events,
    missing: jax.Array,
    rows: jax.Array,
    *,
    missing_gaps: jax.Array | None = None,
    num_candidates: int = 16,
    num_sweeps: Array | int = 1,
) -> Events:
    """Fills `events` [B, T] of rows int32 [B]; as `sample_fills`, unchecked and traceable."""
    blanks = (missing, jnp.zeros_like(missing) if missing_gaps is None else missing_gaps)
    return _fill(key, tables, events, rows, blanks, num_candidates, num_sweeps)


@functools.partial(jax.jit, static_argnames=("max_new", "num_candidates"))
def draw_prefixes(
    key: jax.Array,
    tables: SamplingTables,
    events: Events,
    num_new: jax.Array,
    rows: jax.Array,
    *,
    max_new: int,
    num_candidates: int = 16,
    num_sweeps: Array | int = 1,
) -> Events:
    """Puts num_new int32 [B] events in front; as `sample_prefixes`, unchecked and traceable.

    max_new is static and at least the largest num_new.
    """
    num_new = jnp.where(events.lengths > 0, num_new, 0)
    steps = jnp.arange(events.items.shape[1] + max_new)[None, :]
    places = jnp.clip(steps - num_new[:, None], 0, events.items.shape[1] - 1)
    moved = dataclasses.replace(
        events,
        items=jnp.take_along_axis(events.items, places, axis=1),
        actions=jnp.take_along_axis(events.actions, places, axis=1),
        gaps=jnp.take_along_axis(events.gaps, places, axis=1),
        lengths=events.lengths + num_new,
    )
    missing = steps < num_new[:, None]
    once_first = (steps == num_new[:, None]) & (num_new[:, None] > 0)
    blanks = (missing, once_first)
    return _fill(key, tables, moved, rows, blanks, num_candidates, num_sweeps)


def _fill(
    key: jax.Array,
    tables: SamplingTables,
    events: Events,
    rows: jax.Array,
    blanks: tuple[jax.Array, jax.Array],
    num_candidates: int,
    num_sweeps: Array | int,
) -> Events:
    """Draws what is missing; blanks are bool [B, T], of whole events and of gaps alone."""
    steps = jnp.arange(events.items.shape[1], dtype=jnp.int32)[:, None]
    real = steps < events.lengths[None, :]
    missing, missing_gap = blanks[0].T & real, (blanks[0] | blanks[1]).T & real
    layout = time_major(lay_out(events))
    layout = dataclasses.replace(
        layout,
        items=jnp.where(real & ~missing, layout.items, -1),
        gaps=jnp.where(missing_gap, -1, layout.gaps),
    )

    def sweep(number: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        words = RowWords.of(jax.random.fold_in(key, number), rows)
        here = dataclasses.replace(layout, items=drawn[0])
        states = _draw_posterior(words, tables.params, here, missing)
        items, _ = draw_missing_items(
            tables, words, states, here.items, missing, num_candidates=num_candidates
        )
        return items, states

    nothing = (layout.items, jnp.zeros_like(layout.items))
    times = 1 if tables.kernel is None else num_sweeps
    items, states = jax.lax.fori_loop(0, times, sweep, nothing)
    actions, gaps = draw_context(tables, RowWords.of(key, rows), states)
    actions = jnp.where(missing, actions, layout.actions)
    gaps = jnp.where(missing_gap, jnp.where(steps > 0, gaps, 0), layout.gaps)
    items, actions, gaps = (jnp.where(real, grid, 0).T for grid in (items, actions, gaps))
    return dataclasses.replace(events, items=items, actions=actions, gaps=gaps)


def _draw_posterior(
    words: RowWords, params: HmmParams, layout: Layout, missing: jax.Array
) -> jax.Array:
    """Draws states int32 [T, B] given the items that are there, and the context of known events."""
    observation = observe(params, layout, leave_out=False)
    item = jnp.where((layout.items >= 0)[..., None], observation.item, 1.0)
    likelihood = jnp.where(missing[..., None], item, observation.likelihood)
    alphas, _ = forward(params, layout, likelihood)
    steps = jnp.arange(missing.shape[0], dtype=jnp.int32)[:, None]
    return sample_path(params, layout, alphas, words.uniform("move", steps))


def _checked_counts(num_new: Array | int, num_rows: int) -> np.ndarray:
    given = np.asarray(num_new)
    if given.shape not in ((), (num_rows,)) or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"num_new is {given.dtype} {given.shape}: expected a whole number, or {num_rows}"
        )
    counts = np.broadcast_to(given, (num_rows,)).astype(np.int32)
    wrong = np.flatnonzero(counts < 0)
    if wrong.size:
        raise ValueError(f"num_new[{wrong[0]}] = {counts[wrong[0]]}: expected at least 0")
    return counts


def _checked_mask(name: str, mask: Array, events: Events) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != events.items.shape or mask.dtype != np.bool_:
        raise ValueError(f"{name} is {mask.dtype} {mask.shape}: expected bool {events.items.shape}")
    return mask


def _without(events: Events, missing: np.ndarray, missing_gaps: np.ndarray) -> Events:
    """The events with 0 in place of what is not read."""
    unread = {"items": missing, "actions": missing, "gaps": missing | missing_gaps}
    zeroed = {
        name: np.where(at, 0, np.asarray(getattr(events, name))) for name, at in unread.items()
    }
    return dataclasses.replace(events, **zeroed)


def check_conditional(params: HmmParams, num_candidates: int, num_sweeps: int = 1) -> None:
    """Checks what conditional draws ask beyond a valid model.

    Raises:
        ValueError: if a number is below 1, or the model has explicit durations.
    """
    for name, value in (("num_candidates", num_candidates), ("num_sweeps", num_sweeps)):
        if value < 1:
            raise ValueError(f"{name} = {value}: expected at least 1")
    if params.duration is not None:
        raise ValueError("duration: conditional draws know no explicit durations, expected None")
