"""What the kernel on previous items says about events: probability, and the lag that was followed.

Read on the device; built on the host in `kernel`. Mixing with the states' own distributions is done
in `emissions`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax.hmm.events import Layout, or_one, take_rows
from recjax.hmm.kernel import Kernel

_LEAST_WEIGHT = 1e-30  # of usable lags; its inverse is still a float32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KernelExplanation:
    """What the kernel says about the events of a time-major layout.

    Attributes:
        probability: float32 [T, B], p(item | previous items) by the kernel alone; 0 where no
            previous item has a row, and the state's own distribution must explain the event.
        available: bool [T, B], whether any previous item has a row.
        chosen: float32 [W, T, B], probability that the row of each lag was followed, given that the
            kernel chose the item.
        chance: float32 [W, T, B], 1 / (sum of the usable lags' weights) where the lag is usable,
            else 0.
    """

    probability: jax.Array
    available: jax.Array
    chosen: jax.Array
    chance: jax.Array


def explain_by_kernel(kernel: Kernel, layout: Layout, *, leave_out: bool) -> KernelExplanation:
    """Returns what the kernel says about every event.

    Args:
        kernel: the counts.
        layout: time-major [T, B]; an unknown item (-1) leads to none.
        leave_out: static; True subtracts from the cell (previous item, item) what pairs with this
            very event put there, as if the event had been missing when the kernel was counted.
    """
    by_lag = [
        _follow(kernel, layout, lag, leave_out=leave_out) for lag in range(1, kernel.window + 1)
    ]
    rows, usable = (jnp.stack(parts) for parts in zip(*by_lag, strict=True))
    odds = jnp.where(usable, jnp.asarray(kernel.lags)[:, None, None], 0.0)
    weight = odds.sum(0)
    joint = odds * rows
    weighted = joint.sum(0)
    available = weight > _LEAST_WEIGHT
    return KernelExplanation(
        probability=jnp.where(available, weighted / or_one(weight), 0.0),
        available=available,
        chosen=joint / or_one(weighted)[None],
        chance=jnp.where(usable & available[None], 1.0 / or_one(weight)[None], 0.0),
    )


def follow_pair(
    kernel: Kernel, previous: jax.Array, items: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns p(item | one previous item) float32 [...], and bool [...]: whether it has a row.

    Args:
        kernel: the counts.
        previous: int32 [...], -1 for none.
        items: int32 [...].
    """
    count, _ = _find(kernel, previous, items)
    total = take_rows(kernel.totals, previous)
    usable = (previous >= 0) & (total > 0)
    return jnp.where(usable, count * take_rows(kernel.scale, items) / or_one(total), 0.0), usable


def _follow(
    kernel: Kernel, layout: Layout, lag: int, *, leave_out: bool
) -> tuple[jax.Array, jax.Array]:
    """p(item | item `lag` events before) [T, B], and whether that item has a row."""
    previous = shifted(layout.items, lag, 0)
    count, found = _find(kernel, previous, layout.items)
    column = take_rows(kernel.scale, layout.items)
    total = take_rows(kernel.totals, previous)
    left = total
    if leave_out:
        own = jnp.where(found, _own_count(kernel, layout, previous), 0.0)
        count = jnp.where(count - own > 1e-4 * own, count - own, 0.0)
        left = total - own * column
    usable = (layout.positions >= lag) & (previous >= 0) & (left > 1e-5 * total)
    return jnp.where(usable, count * column / jnp.where(usable, left, 1.0), 0.0), usable


def _own_count(kernel: Kernel, layout: Layout, previous: jax.Array) -> jax.Array:
    """What the event itself added to the cell (previous, item): its pairs with either neighbour."""
    back = kernel.backward
    same = previous == layout.items  # then both directions fell into the one cell
    own = jnp.zeros(layout.items.shape)
    for step in range(1, kernel.window + 1):
        before = (layout.positions >= step) & (shifted(layout.items, step, 0) == previous)
        places = shifted(layout.positions, -step, -1)
        after = (places == layout.positions + step) & (shifted(layout.items, -step, 0) == previous)
        forward, reverse = 1.0 / step, back / step
        own += jnp.where(before, forward + jnp.where(same, reverse, 0.0), 0.0)
        own += jnp.where(after, reverse + jnp.where(same, forward, 0.0), 0.0)
    return own


def shifted(values: jax.Array, steps: int, fill: int) -> jax.Array:
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
