"""The item table cut by rows over devices: lookups and reductions that never gather it.

Rows of a batch lie along some axes of the mesh, rows of the table along others; an axis of both is
`shared`. Instead of the table (gigabytes), the batch's small vectors travel: each device gets the
rows of all devices along the shared axes, answers for its own part of the table, and the answers
are added up. The axes come from the logical rules that the engine has put in force; without rules
everything here is the plain operation. Called by `recjax.models.embeddings` and `recjax.losses`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec


@dataclass(frozen=True)
class ItemAxis:
    """Mesh axes of the item table and of the batch; methods run inside `split` only.

    Attributes:
        table: axes that rows of the item table lie along; none: the table is whole.
        batch: axes that rows of the batch lie along.
    """

    table: tuple[str, ...]
    batch: tuple[str, ...]

    @classmethod
    def in_force(cls) -> "ItemAxis":
        """Returns the axes under the rules in force."""
        rules = dict(nn.get_logical_axis_rules())
        return cls(*(tuple(rules.get(name) or ()) for name in ("vocab", "batch")))

    @property
    def shared(self) -> tuple[str, ...]:
        """Axes of both, in the batch's order."""
        return tuple(axis for axis in self.batch if axis in self.table)

    def split(self, function: Callable[..., Any], arguments: str, results: str) -> Callable:
        """Returns `function` on each device's parts; "t" is cut like the table, "b" the batch."""
        if not self.table and not self.batch:
            return function
        spec = {"t": PartitionSpec(self.table), "b": PartitionSpec(self.batch)}
        out = tuple(spec[letter] for letter in results)
        return jax.shard_map(
            function,
            in_specs=tuple(spec[letter] for letter in arguments),
            out_specs=out if len(out) > 1 else out[0],
            check_vma=False,
        )

    def first_row(self, num_rows: int) -> jax.Array | int:
        """Number of this device's first table row, scalar, given how many it has."""
        return jax.lax.axis_index(self.table) * num_rows if self.table else 0

    def gather(self, values: jax.Array) -> jax.Array:
        """Brings batch rows [n, ...] of all devices along the shared axes together."""
        if not self.shared:
            return values
        return jax.lax.all_gather(values, self.shared, tiled=True)

    def own(self, values: jax.Array) -> jax.Array:
        """Takes this device's batch rows [n, ...] out of gathered ones."""
        if not self.shared:
            return values
        count = len(values) // jax.lax.axis_size(self.shared)
        start = jax.lax.axis_index(self.shared) * count
        return jax.lax.dynamic_slice_in_dim(values, start, count)

    def max_over_table(self, values: jax.Array) -> jax.Array:
        """Largest of the devices' answers [n, ...] for gathered rows."""
        return jax.lax.pmax(values, self.table) if self.table else values

    def sum_over_table(self, values: jax.Array) -> jax.Array:
        """Sum of the devices' answers [n, ...] for gathered rows."""
        return jax.lax.psum(values, self.table) if self.table else values

    def scatter_sum(self, values: jax.Array) -> jax.Array:
        """Sum of the devices' answers [n, ...], each device keeping its own batch rows."""
        rest = tuple(axis for axis in self.table if axis not in self.shared)
        values = jax.lax.psum(values, rest) if rest else values
        if not self.shared:
            return values
        return jax.lax.psum_scatter(values, self.shared, tiled=True)

    def sum_over_batch(self, values: jax.Array) -> jax.Array:
        """Sum of table gradients [v, ...] over devices with the same rows of the table."""
        rest = tuple(axis for axis in self.batch if axis not in self.table)
        return jax.lax.psum(values, rest) if rest else values


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Takes rows ids int32 [B, ...] of an item table float32 [V, D] -> float32 [B, ..., D]."""
    axis = ItemAxis.in_force()
    if not axis.table:
        return jnp.take(table, ids, axis=0, mode="clip")
    return axis.split(partial(_look_up_part, axis), "tb", "b")(table, ids)


def _look_up_part(axis: ItemAxis, table: jax.Array, ids: jax.Array) -> jax.Array:
    local = axis.gather(ids) - axis.first_row(len(table))
    mine = (local >= 0) & (local < len(table))
    rows = jnp.take(table, local, axis=0, mode="clip")
    return axis.scatter_sum(jnp.where(mine[..., None], rows, 0))
