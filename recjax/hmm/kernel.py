"""The kernel on previous items: skip-Markov counts, built on the host from a stream of users.

C(i, j) counts j standing l = 1..W events after i with weight 1 / l, plus `backward` times the same
in reverse order. The probability of j after i is C(i, j) x popularity(j)^-damping over its sum in
row i; rows of the previous W items are mixed with weights `lags`, which begin at 1 / lag and are
learned. What the kernel says about events is in `kernel_explanation`; how often a state uses the
kernel is not decided here (`HmmParams.mix`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.events import Array, Events, flatten_events, or_one, take_rows

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
        lags: float32 [W], sum 1, mixing weight of the row of the item 1..W events back, over the
            sum of those that can be used at an event.
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

    def estimate(self, chosen: jax.Array, chance: jax.Array, smoothing: Array) -> Kernel:
        """Returns the kernel with the lag weights that expected counts call for; pairs stay.

        Args:
            chosen: [W] items that followed the row of each lag.
            chance: [W] sum, over the events that the kernel explains and where the lag is usable,
                of 1 / (sum of the usable lags' weights).
            smoothing: [] pseudo-events per lag, in which all lags are usable.

        Reference:
            Hunter (2004), "MM algorithms for generalized Bradley-Terry models", Sec. 2: choices
            among subsets; chosen / chance never lowers the likelihood, and is exact EM where all
            lags are always usable.
        """
        lags = jnp.asarray(self.lags)
        chance = chance + smoothing * lags.size
        found = jnp.where(chance > 0, (chosen + smoothing) / or_one(chance), lags)
        total = found.sum()
        return dataclasses.replace(self, lags=jnp.where(total > 0, found / or_one(total), lags))


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
    lags = 1.0 / np.arange(1, settings.kernel_window + 1)
    return Kernel(
        neighbours=neighbours,
        counts=counts,
        scale=scale.astype(np.float32),
        totals=np.bincount(rows, damped, minlength=num_items).astype(np.float32),
        lags=(lags / lags.sum()).astype(np.float32),
        backward=np.asarray(settings.kernel_backward, np.float32),
    )
