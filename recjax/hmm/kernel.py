"""The kernel on previous items: skip-Markov counts, and the probability of an item given them.

Built on the host from a stream of users (`build_kernel`); read on the device. C(i, j) counts j
standing l = 1..W events after i with weight 1 / l, plus `backward` times the same in reverse order.
The probability of j after i is C(i, j) x popularity(j)^-damping over its sum in row i; rows of the
previous W items are mixed with weights 1 / lag. How often a state uses the kernel is not decided
here (`HmmParams.mix`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.events import Array, Events, Layout, flatten_events, take_rows

if TYPE_CHECKING:
    from recjax.hmm.parameters import HmmSettings

_BUFFER_PAIRS = 1 << 22  # pairs counted before they are merged; 64 MiB
_SPARE_NEIGHBOURS = 4  # cells kept per item while counting, as a multiple of the final cap


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kernel:
    """Counts of item pairs, at most N neighbours per item.

    Attributes:
        neighbours: int32 [V, N], ascending within a row, V marks an unused cell (at the end).
        counts: float32 [V, N], weighted pair counts before damping, 0 in unused cells.
        scale: float32 [V], popularity^-damping, the factor of every column.
        totals: float32 [V], sum over the row of counts x scale; 0 for an item without neighbours.
        lags: float32 [W], mixing weight of the row of the item 1..W events back.
        backward: float32 [], weight of pairs in reverse order that `counts` holds.
    """

    neighbours: Array
    counts: Array
    scale: Array
    totals: Array
    lags: Array
    backward: Array

    @property
    def num_items(self) -> int:
        """V."""
        return self.neighbours.shape[0]

    @property
    def window(self) -> int:
        """W, previous items looked at."""
        return self.lags.shape[0]

    @property
    def weights(self) -> jax.Array:
        """Probabilities float32 [V, N] of the neighbours; rows sum to 1, or 0 if there are none."""
        damped = jnp.asarray(self.counts) * take_rows(self.scale, jnp.asarray(self.neighbours))
        totals = jnp.asarray(self.totals)[:, None]
        return jnp.where(totals > 0, damped / jnp.where(totals > 0, totals, 1.0), 0.0)


def build_kernel(
    batches: Iterable[Events | tuple[np.ndarray, np.ndarray]],
    num_items: int,
    settings: HmmSettings,
) -> Kernel:
    """Counts item pairs over a stream of users, on the host.

    Memory is bounded by num_items x kernel_neighbours: when more distinct pairs than 4 x that are
    held, the rarest of each row are dropped.

    Args:
        batches: `Events`, or (items [n], offsets [B + 1]) of users one after another.
        num_items: V.
        settings: reads kernel_window, kernel_neighbours, kernel_backward, kernel_damping.

    Returns:
        Kernel with host arrays.

    Raises:
        ValueError: if an item index lies outside 0..num_items - 1.
    """
    counter = _PairCounter(num_items, _SPARE_NEIGHBOURS * settings.kernel_neighbours)
    popularity = np.zeros(num_items, np.int64)
    for batch in batches:
        items, offsets = flatten_events(batch) if isinstance(batch, Events) else batch
        items = _checked_items(np.asarray(items), num_items)
        popularity += np.bincount(items, minlength=num_items)
        places = np.arange(items.size) - np.repeat(offsets[:-1], np.diff(offsets))
        for lag in range(1, settings.kernel_window + 1):
            later = np.flatnonzero(places >= lag)
            counter.add(items[later - lag] * np.int64(num_items) + items[later], 1.0 / lag)
    keys, values = counter.result()
    rows, columns = keys // num_items, keys % num_items
    backward = settings.kernel_backward
    keys, values = _merge(
        np.concatenate([keys, columns * np.int64(num_items) + rows]),
        np.concatenate([values, backward * values]),
    )
    return _capped(keys[values > 0], values[values > 0], popularity, settings)


def _checked_items(items: np.ndarray, num_items: int) -> np.ndarray:
    outside = np.flatnonzero((items < 0) | (items >= num_items))
    if outside.size:
        raise ValueError(
            f"items[{outside[0]}] = {items[outside[0]]}: expected 0 <= item < {num_items}"
        )
    return items.astype(np.int64)


class _PairCounter:
    """Sums weights by key, holding at most `cap` cells per row once there are too many."""

    def __init__(self, num_items: int, cap: int):
        self._num_items, self._cap = num_items, cap
        self._keys, self._values = np.zeros(0, np.int64), np.zeros(0)
        self._buffer: list[tuple[np.ndarray, float]] = []
        self._buffered = 0

    def add(self, keys: np.ndarray, weight: float) -> None:
        self._buffer.append((keys, weight))
        self._buffered += keys.size
        if self._buffered >= _BUFFER_PAIRS:
            self._flush()

    def _flush(self) -> None:
        keys = [self._keys, *(keys for keys, _ in self._buffer)]
        values = [self._values, *(np.full(keys.size, w) for keys, w in self._buffer)]
        self._keys, self._values = _merge(np.concatenate(keys), np.concatenate(values))
        self._buffer, self._buffered = [], 0
        if self._keys.size > self._cap * self._num_items:
            kept = _largest_per_row(self._keys // self._num_items, self._values, self._cap)
            self._keys, self._values = self._keys[kept], self._values[kept]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        self._flush()
        return self._keys, self._values


def _merge(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums values of equal keys; keys come back ascending."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = np.add.reduceat(values, starts) if starts.size else values
    return keys[starts], sums


def _largest_per_row(rows: np.ndarray, values: np.ndarray, cap: int) -> np.ndarray:
    """Ascending places of the `cap` largest values of each row; rows must be ascending."""
    order = np.lexsort((-values, rows))
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    sizes = np.diff(np.append(starts, rows.size))
    rank = np.arange(rows.size) - np.repeat(starts, sizes)
    return np.sort(order[rank < cap])


def _capped(
    keys: np.ndarray, values: np.ndarray, popularity: np.ndarray, settings: HmmSettings
) -> Kernel:
    """The kernel of pair sums, each row cut to the neighbours with the largest damped counts."""
    num_items, cap = popularity.size, settings.kernel_neighbours
    scale = np.maximum(popularity, 1.0) ** -settings.kernel_damping
    rows, columns = keys // num_items, keys % num_items
    damped = values * scale[columns]
    kept = _largest_per_row(rows, damped, cap)
    rows, columns, values, damped = rows[kept], columns[kept], values[kept], damped[kept]
    starts = np.searchsorted(rows, np.arange(num_items))
    places = np.arange(rows.size) - starts[rows]
    neighbours = np.full((num_items, cap), num_items, np.int32)
    counts = np.zeros((num_items, cap), np.float32)
    neighbours[rows, places], counts[rows, places] = columns, values
    return Kernel(
        neighbours=neighbours,
        counts=counts,
        scale=scale.astype(np.float32),
        totals=np.bincount(rows, damped, minlength=num_items).astype(np.float32),
        lags=(1.0 / np.arange(1, settings.kernel_window + 1)).astype(np.float32),
        backward=np.asarray(settings.kernel_backward, np.float32),
    )


def kernel_probability(
    kernel: Kernel, layout: Layout, *, leave_out: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns p(item | previous items) by the kernel alone, for every event.

    Args:
        kernel: the counts.
        layout: time-major [T, B].
        leave_out: static; True subtracts from the cell (previous item, item) what pairs with this
            very event put there, as if the event had been missing when the kernel was counted.

    Returns:
        probability float32 [T, B], and bool [T, B]: whether any previous item had a row (where not,
        the probability is 0 and the state's own distribution must explain the event).
    """
    weighted, weight = jnp.zeros(layout.items.shape), jnp.zeros(layout.items.shape)
    for lag in range(1, kernel.window + 1):
        previous = _shifted(layout.items, lag, 0)
        count, found = _find(kernel, previous, layout.items)
        column = take_rows(kernel.scale, layout.items)
        total = take_rows(kernel.totals, previous)
        left = total
        if leave_out:
            own = jnp.where(found, _own_count(kernel, layout, previous), 0.0)
            count = jnp.where(count - own > 1e-4 * own, count - own, 0.0)
            left = total - own * column
        usable = (layout.positions >= lag) & (left > 1e-5 * total)
        share = jnp.where(usable, kernel.lags[lag - 1], 0.0)
        weighted += share * count * column / jnp.where(usable, left, 1.0)
        weight += share
    available = weight > 0
    return weighted / jnp.where(available, weight, 1.0), available


def _own_count(kernel: Kernel, layout: Layout, previous: jax.Array) -> jax.Array:
    """What the event itself added to the cell (previous, item): its pairs with either neighbour."""
    back = kernel.backward
    same = previous == layout.items  # then both directions fell into the one cell
    own = jnp.zeros(layout.items.shape)
    for step in range(1, kernel.window + 1):
        before = (layout.positions >= step) & (_shifted(layout.items, step, 0) == previous)
        places = _shifted(layout.positions, -step, -1)
        after = (places == layout.positions + step) & (_shifted(layout.items, -step, 0) == previous)
        forward, reverse = 1.0 / step, back / step
        own += jnp.where(before, forward + jnp.where(same, reverse, 0.0), 0.0)
        own += jnp.where(after, reverse + jnp.where(same, forward, 0.0), 0.0)
    return own


def _shifted(values: jax.Array, steps: int, fill: int) -> jax.Array:
    """values[t - steps] along the time axis, `fill` where there is none; steps may be negative."""
    size = min(abs(steps), values.shape[0])
    pad = jnp.full((size, *values.shape[1:]), fill, values.dtype)
    if steps > 0:
        return jnp.concatenate([pad, values[: values.shape[0] - size]])
    return jnp.concatenate([values[size:], pad])


def _find(kernel: Kernel, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Count in the cell (row, column), 0 if it is not kept, and whether it is; binary search."""
    num_neighbours = kernel.neighbours.shape[1]
    flat = jnp.asarray(kernel.neighbours).reshape(-1)
    start = rows * num_neighbours
    low, size = jnp.zeros_like(rows), num_neighbours
    while size > 1:  # static: unrolled to log2(N) gathers
        half = size // 2
        middle = low + half
        low = jnp.where(take_rows(flat, start + middle) <= columns, middle, low)
        size -= half
    found = take_rows(flat, start + low) == columns
    count = take_rows(jnp.asarray(kernel.counts).reshape(-1), start + low)
    return jnp.where(found, count, 0.0), found
