"""Checks on the host, before anything is traced: each says which tensor, row and value is wrong.

Nothing here runs under jit; traced values are let through unchecked, because their caller was
checked when it brought the values in.
"""

from __future__ import annotations

import jax
import numpy as np

from recjax.hmm.content import ContentItems
from recjax.hmm.emissions import CategoryItems, PlainItems
from recjax.hmm.events import Array, Events
from recjax.hmm.parameters import HmmParams, HmmSizes

_TOLERANCE = 1e-4  # float32 sums over 10^5 cells stay well within it


def is_traced(tree: object) -> bool:
    """Returns whether a leaf is a tracer, that is, whether a jit around us was checked already."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def validate_params(params: HmmParams) -> None:
    """Checks shapes and that every distribution is one.

    Raises:
        ValueError: naming the tensor, the row and the value.
    """
    if is_traced(params):
        return
    if np.ndim(params.start) != 2:
        raise ValueError(f"start has shape {np.shape(params.start)}: expected [segments, states]")
    num_states = params.num_states
    _check_shape("transition", params.transition, (num_states, num_states))
    for name in ("stop", "mix"):
        table = getattr(params, name)
        _check_shape(name, table, (num_states,))
        _check_range(name, table)
    for name in ("start", "transition", "action", "gap"):
        table = np.asarray(getattr(params, name))
        if name != "start":
            _check_shape(name, table, (num_states, table.shape[-1]))
        _check_rows(name, table)
    if params.duration is not None:
        _validate_durations(params)
    _validate_items(params)
    if params.kernel is not None:
        _validate_kernel(params)


def validate_events(events: Events, sizes: HmmSizes) -> None:
    """Checks shapes, lengths and ids of a batch.

    Raises:
        ValueError: naming the tensor, the row and the value.
    """
    if is_traced(events):
        return
    items, lengths = np.asarray(events.items), np.asarray(events.lengths)
    if items.ndim != 2 or lengths.shape != items.shape[:1]:
        raise ValueError(f"items {items.shape}, lengths {lengths.shape}: expected [B, T] and [B]")
    wrong = np.flatnonzero((lengths < 0) | (lengths > items.shape[1]))
    if wrong.size:
        row = wrong[0]
        raise ValueError(f"lengths[{row}] = {lengths[row]}: expected 0..{items.shape[1]}")
    real = np.arange(items.shape[1])[None, :] < lengths[:, None]
    bounds = (sizes.num_items, sizes.num_actions, sizes.num_gap_bins)
    for name, bound in zip(("items", "actions", "gaps"), bounds, strict=True):
        grid = np.asarray(getattr(events, name))
        _check_shape(name, grid, items.shape)
        where = np.argwhere(real & ((grid < 0) | (grid >= bound)))
        if where.size:
            row, column = where[0]
            raise ValueError(
                f"{name}[{row}, {column}] = {grid[row, column]}: expected 0 <= id < {bound}"
            )
    if events.segments is not None:
        validate_segments(np.asarray(events.segments), lengths, sizes.num_segments)


def validate_segments(segments: np.ndarray, lengths: np.ndarray, num_segments: int) -> None:
    """Checks the segments int [B] of users that have events (lengths int [B] above 0).

    Raises:
        ValueError: naming the row and the value.
    """
    _check_shape("segments", segments, lengths.shape)
    wrong = np.flatnonzero((lengths > 0) & ((segments < 0) | (segments >= num_segments)))
    if wrong.size:
        raise ValueError(
            f"segments[{wrong[0]}] = {segments[wrong[0]]}: expected 0 <= segment < {num_segments}"
        )


def validate_input(params: HmmParams, events: Events) -> None:
    """Checks a model and a batch together.

    Raises:
        ValueError: naming the tensor, the row and the value.
    """
    validate_params(params)
    validate_events(events, params.sizes)


def validate_item_category(item_category: np.ndarray | None, num_items: int) -> None:
    """Checks one category per item, int [V] counted from 0.

    Raises:
        ValueError: naming the item and its value.
    """
    if item_category is None:
        return
    item_category = np.asarray(item_category)
    _check_shape("item_category", item_category, (num_items,))
    wrong = np.flatnonzero(item_category < 0)
    if wrong.size:
        raise ValueError(
            f"item_category[{wrong[0]}] = {item_category[wrong[0]]}: expected a number >= 0"
        )


def validate_item_features(
    item_features: np.ndarray | None, num_items: int, item_category: np.ndarray | None = None
) -> None:
    """Checks features of the items, float [V, F], which exclude categories.

    Raises:
        ValueError: naming the item and its value.
    """
    if item_features is None:
        return
    if item_category is not None:
        raise ValueError("item_features and item_category: expected at most one of them")
    item_features = np.asarray(item_features)
    if item_features.ndim != 2 or 0 in item_features.shape:
        raise ValueError(f"item_features has shape {item_features.shape}: expected [V, F]")
    _check_shape("item_features", item_features, (num_items, item_features.shape[1]))
    _check_finite("item_features", item_features)


def _validate_durations(params: HmmParams) -> None:
    table = np.asarray(params.duration)
    _check_shape("duration", table, (params.num_states, table.shape[-1]))
    _check_rows("duration", table)
    diagonal = np.diag(np.asarray(params.transition))
    if diagonal.any():
        state = int(np.flatnonzero(diagonal)[0])
        raise ValueError(
            f"transition[{state}, {state}] = {diagonal[state]}: expected 0 with durations"
        )


def validate_stays(states: np.ndarray, lengths: np.ndarray, max_duration: int) -> None:
    """Checks that no observed stay is longer than durations allow (1: anything goes).

    Args:
        states: int [B, T], -1 where not known.
        lengths: int [B].
        max_duration: D.

    Raises:
        ValueError: naming the row and the state.
    """
    if max_duration == 1 or states.shape[1] <= max_duration:
        return
    real = np.arange(states.shape[1])[None, :] < lengths[:, None]
    same = (states[:, 1:] == states[:, :-1]) & (states[:, 1:] >= 0) & real[:, 1:]
    too_long = np.lib.stride_tricks.sliding_window_view(same, max_duration, axis=1).all(-1)
    if too_long.any():
        row, column = np.argwhere(too_long)[0]
        raise ValueError(
            f"states[{row}]: more than max_duration = {max_duration} events in a row in state "
            f"{states[row, column]}"
        )


def _validate_items(params: HmmParams) -> None:
    if isinstance(params.items, PlainItems):
        table = np.asarray(params.items.table)
        _check_shape("items.table", table, (params.items.num_items, params.num_states))
        _check_rows("items.table (one row per state)", table.T)
        if isinstance(params.items, ContentItems):
            _validate_content(params.items, params.num_states)
    elif isinstance(params.items, CategoryItems):
        _check_rows("items.category", np.asarray(params.items.category))
        within = np.asarray(params.items.item_in_category, np.float64)
        _check_range("items.item_in_category", within)
        sums = np.bincount(np.asarray(params.items.category_of), within)
        used = np.bincount(np.asarray(params.items.category_of)) > 0
        _check_sums("items.item_in_category (one row per category)", np.where(used, sums, 1.0))


def _validate_content(items: ContentItems, num_states: int) -> None:
    validate_item_features(items.features, items.num_items)
    _check_shape("items.weights", items.weights, (items.features.shape[1], num_states))
    _check_shape("items.offset", items.offset, (items.num_items,))
    for name in ("weights", "offset"):
        _check_finite(f"items.{name}", np.asarray(getattr(items, name)))


def _validate_kernel(params: HmmParams) -> None:
    kernel = params.kernel
    assert kernel is not None
    if kernel.num_items != params.items.num_items:
        raise ValueError(
            f"kernel.neighbours has {kernel.num_items} rows: expected {params.items.num_items}"
        )
    counts = np.asarray(kernel.counts)
    where = np.argwhere(~(counts >= 0))
    if where.size:
        row, column = where[0]
        raise ValueError(f"kernel.counts[{row}, {column}] = {counts[row, column]}: expected >= 0")
    _check_rows("kernel.lags", np.asarray(kernel.lags)[None, :])


def _check_shape(name: str, table: Array, shape: tuple[int, ...]) -> None:
    if tuple(table.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(table.shape)}: expected {tuple(shape)}")


def _check_finite(name: str, table: np.ndarray) -> None:
    where = np.argwhere(~np.isfinite(table))
    if where.size:
        place = ", ".join(str(index) for index in where[0])
        raise ValueError(f"{name}[{place}] = {table[tuple(where[0])]}: expected a finite number")


def _check_range(name: str, table: Array) -> None:
    values = np.asarray(table)
    where = np.flatnonzero(~((values >= 0) & (values <= 1 + _TOLERANCE)))
    if where.size:
        raise ValueError(
            f"{name}[{where[0]}] = {values.reshape(-1)[where[0]]}: expected a probability"
        )


def _check_rows(name: str, table: np.ndarray) -> None:
    where = np.argwhere(~(table >= 0))  # catches NaN too
    if where.size:
        row, column = where[0]
        raise ValueError(f"{name}[{row}, {column}] = {table[row, column]}: expected >= 0")
    _check_sums(name, table.sum(-1, dtype=np.float64))


def _check_sums(name: str, sums: np.ndarray) -> None:
    wrong = np.flatnonzero(np.abs(sums - 1.0) > _TOLERANCE)
    if wrong.size:
        raise ValueError(f"{name}: row {wrong[0]} sums to {sums[wrong[0]]:.6g}, expected 1")
