"""Behaviour as arrays: ragged `Events` of users, and the `Layout` that the mathematics reads.

Here live the two containers, the conversion between them, and packing on the host. Probabilities
do not live here (`parameters`, `emissions`), nor checks (`validation`). Everything in `recjax.hmm`
reads events through a `Layout`: a position counter and a last-event flag per cell, so that one user
per row and several users per row are the same case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any  # jax.Array or np.ndarray: both are welcome wherever arrays come in


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Events:
    """A batch of users, left-aligned and padded; cells at t >= lengths[b] mean nothing.

    Attributes:
        items: int32 [B, T], 0-based item index.
        actions: int32 [B, T], index of the action; all 0 where actions are not modelled.
        gaps: int32 [B, T], bin of the time since the previous event. The first event of a user has
            no gap: its bin is not read, and draws write 0 there.
        lengths: int32 [B], number of events; 0 marks a padding row, which contributes nothing.
        segments: int32 [B], segment of each user, which chooses his row of the start distribution;
            None: all are of segment 0.
    """

    items: Array
    actions: Array
    gaps: Array
    lengths: Array
    segments: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layout:
    """Cells of one or several users per row.

    Attributes:
        items: int32 [B, T]; -1: not known, and the kernel reads past it (see `conditional`).
        actions: int32 [B, T].
        gaps: int32 [B, T]; -1: not known, and explained by every state alike.
        positions: int32 [B, T], 0-based place of the event in its user's sequence, -1 on padding.
        lasts: bool [B, T], True on the last event of a user.
        states: int32 [B, T], observed hidden states (-1: not known), or None.
        segments: int32 [B, T], the user's segment, read at his first event; None: all 0.
    """

    items: Array
    actions: Array
    gaps: Array
    positions: Array
    lasts: Array
    states: Array | None = None
    segments: Array | None = None


def lay_out(events: Events) -> Layout:
    """Returns the layout of `events`, one user per row; usable under jit."""
    steps = jnp.arange(events.items.shape[1], dtype=jnp.int32)[None, :]
    lengths = jnp.asarray(events.lengths)[:, None]
    positions = jnp.where(steps < lengths, steps, -1)
    segments = events.segments
    if segments is not None:
        segments = jnp.broadcast_to(jnp.asarray(segments)[:, None], positions.shape)
    return Layout(
        items=jnp.asarray(events.items),
        actions=jnp.asarray(events.actions),
        gaps=jnp.asarray(events.gaps),
        positions=positions,
        lasts=steps == lengths - 1,
        segments=segments,
    )


def time_major(layout: Layout) -> Layout:
    """Returns the layout with axes [T, B], the order in which scans read it."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), layout)


def take_rows(table: Array, index: jax.Array) -> jax.Array:
    """Returns table[index]; clipping is many times faster on CPU than the default fill."""
    return jnp.asarray(table).at[index].get(mode="clip")


def or_one(value: jax.Array) -> jax.Array:
    """Returns the value [...] where it is above 0, else 1: a safe divisor."""
    return jnp.where(value > 0, value, 1.0)


def flatten_events(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Returns items int32 [n] of all users in order, and offsets int64 [B + 1] of the users.

    >>> import numpy as np
    >>> grid = np.array([[4, 2, 0], [7, 0, 0]], np.int32)
    >>> flatten_events(Events(grid, 0 * grid, 0 * grid, np.array([2, 1])))
    (array([4, 2, 7], dtype=int32), array([0, 2, 3]))
    """
    lengths = np.asarray(events.lengths, np.int64)
    items = np.asarray(events.items)
    kept = np.arange(items.shape[1])[None, :] < lengths[:, None]
    return items[kept].astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])


def pack_events(
    batches: Iterable[Events],
    num_rows: int,
    row_len: int,
    states_of: Callable[[Events], np.ndarray] | None = None,
) -> Iterator[Layout]:
    """Yields layouts of one shape [num_rows, row_len] that hold several users per row.

    Users keep their order (next fit), so the result does not depend on how users were batched.

    Args:
        batches: batches of users on the host.
        num_rows: rows of every layout.
        row_len: cells per row, at least the longest user.
        states_of: gives the observed states int32 [B, T] of a batch; None when states are hidden.

    Raises:
        ValueError: if a user is longer than `row_len`, or some batches only have segments.
    """
    block = _Block(num_rows, row_len)
    for events in batches:
        lengths = np.asarray(events.lengths, np.int64)
        if lengths.size and lengths.max() > row_len:
            row = int(lengths.argmax())
            raise ValueError(f"lengths[{row}] = {lengths[row]}: at most {row_len} fit in a row")
        grids = _grids(events, states_of)
        kept = np.arange(grids["items"].shape[1])[None, :] < lengths[:, None]
        columns = {name: grid[kept] for name, grid in grids.items()}
        lengths = lengths[lengths > 0]
        while lengths.size:
            taken = block.add(columns, lengths)
            if taken == lengths.size:
                break
            used = int(lengths[:taken].sum())
            columns = {name: column[used:] for name, column in columns.items()}
            lengths = lengths[taken:]
            yield block.take()
    if not block.is_empty:
        yield block.take()


def _grids(
    events: Events, states_of: Callable[[Events], np.ndarray] | None
) -> dict[str, np.ndarray]:
    """What is known of every event [B, T], by the names of `Layout`."""
    grids = {name: np.asarray(getattr(events, name)) for name in ("items", "actions", "gaps")}
    if states_of is not None:
        grids["states"] = np.asarray(states_of(events))
    if events.segments is not None:
        segments = np.asarray(events.segments)[:, None]
        grids["segments"] = np.broadcast_to(segments, grids["items"].shape)
    return grids


class _Block:
    """A layout being filled; its columns are those of the first batch."""

    def __init__(self, num_rows: int, row_len: int):
        self._shape = (num_rows, row_len)
        self._columns: dict[str, np.ndarray] = {}
        self._clear()

    def _clear(self) -> None:
        self._columns = {name: np.zeros(self._shape, np.int32) for name in self._columns}
        self._positions = np.full(self._shape, -1, np.int32)
        self._lasts = np.zeros(self._shape, bool)
        self._next = 0  # first free cell

    @property
    def is_empty(self) -> bool:
        return self._next == 0

    def add(self, columns: dict[str, np.ndarray], lengths: np.ndarray) -> int:
        """Places as many users as fit, in order; returns their number."""
        if not self._columns:
            self._columns = {name: np.zeros(self._shape, np.int32) for name in columns}
        if self._columns.keys() != columns.keys():
            raise ValueError("segments: given in some batches and missing in others")
        starts = self._place(lengths)
        lengths = lengths[: starts.size]
        size = int(lengths.sum())
        firsts = np.cumsum(lengths) - lengths
        within = np.arange(size) - np.repeat(firsts, lengths)
        cells = np.repeat(starts, lengths) + within
        for name, column in columns.items():
            self._columns[name].reshape(-1)[cells] = column[:size]
        self._positions.reshape(-1)[cells] = within
        self._lasts.reshape(-1)[starts + lengths - 1] = True
        return starts.size

    def _place(self, lengths: np.ndarray) -> np.ndarray:
        num_rows, row_len = self._shape
        starts, free, capacity = [], self._next, num_rows * row_len
        for length in lengths.tolist():
            left = row_len - free % row_len
            start = free if length <= left else free + left
            if start + length > capacity:
                break
            starts.append(start)
            free = start + length
        self._next = free
        return np.asarray(starts, np.int64)

    def take(self) -> Layout:
        """Returns the filled layout and starts an empty one."""
        layout = Layout(positions=self._positions, lasts=self._lasts, **self._columns)
        self._clear()
        return layout
