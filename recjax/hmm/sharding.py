"""Where tables and users lie on a mesh: item tables cut by items, users by rows, the rest copied.

Fits follow: give `fit_baum_welch` or `fit_stepwise` an `initial` that `place_tables` placed and a
`place` of `row_placer`; counts and new parameters then lie as the old ones do. What travels for
every packed batch: K item probabilities an event and log2(N) x W numbers of the kernel, summed over
the devices that share the items, and the expected counts, a cut of the tables each, summed over
those that share the rows. Tables and events are never gathered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.hmm.counts import Counts
from recjax.hmm.events import Layout
from recjax.hmm.parameters import HmmParams
from recjax.hmm.passes import Place
from recjax.hmm.tables import SamplingTables

Tables = TypeVar("Tables", HmmParams, Counts)

# Tables whose first axis is items, of parameters and of counts.
_BY_ITEM = {
    "items.table",
    "items.features",
    "items.offset",
    "items.item_in_category",
    "items.category_of",
    "items.item",
    "kernel.neighbours",
    "kernel.counts",
    "kernel.scale",
    "kernel.totals",
}


def table_shardings(tables: Tables, mesh: Mesh, *, item_axis: str | None = "model") -> Tables:
    """Returns a NamedSharding for every table, in the form of `tables`.

    Args:
        tables: a model or its expected counts; tables over items are [V, ...].
        mesh: the devices.
        item_axis: mesh axis over which tables over items are cut; None: they are copied too.

    Raises:
        ValueError: if the mesh has no such axis, or its size does not divide V.
    """
    num_parts = 1 if item_axis is None else _size(mesh, item_axis)

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = _name(path)
        if name not in _BY_ITEM or item_axis is None:
            return NamedSharding(mesh, PartitionSpec())
        if leaf.shape[0] % num_parts:
            raise ValueError(
                f"{name} has {leaf.shape[0]} items: expected a multiple of the {num_parts} parts "
                f"of mesh axis {item_axis!r} (items that never come may be added at the end)"
            )
        return NamedSharding(mesh, PartitionSpec(item_axis))

    return jax.tree.map_with_path(sharding, tables)


def place_tables(tables: Tables, mesh: Mesh, *, item_axis: str | None = "model") -> Tables:
    """Returns the tables on the devices of `table_shardings`.

    Raises:
        ValueError: if the mesh has no such axis, or its size does not divide V.
    """
    return jax.device_put(tables, table_shardings(tables, mesh, item_axis=item_axis))


def row_placer(mesh: Mesh, *, data_axes: Sequence[str] = ("data",)) -> Place:
    """Returns the `place` of a fit that cuts packed batches [B, T] by rows over `data_axes`.

    Raises:
        ValueError: if the mesh has no such axis; on use, if the axes do not divide B.
    """
    num_parts = math.prod(_size(mesh, axis) for axis in data_axes)
    sharding = NamedSharding(mesh, PartitionSpec(tuple(data_axes)))

    def place(layout: Layout) -> Layout:
        num_rows = layout.positions.shape[0]
        if num_rows % num_parts:
            raise ValueError(
                f"a packed batch has {num_rows} rows: expected a multiple of the {num_parts} parts "
                f"of mesh axes {tuple(data_axes)}"
            )
        return jax.device_put(layout, sharding)

    return place


def spread_rows(
    mesh: Mesh, draw: Callable[..., Any], *, data_axes: Sequence[str] = ("data",)
) -> Callable[[jax.Array, SamplingTables, jax.Array], Any]:
    """Returns a jitted `draw(key, tables, rows int32 [B])` whose rows are cut over `data_axes`.

    Every device draws its own rows (the same ones that a single device draws) and asks no other;
    left to the partitioner, the loops over blocks of rows would run on all devices.

    Args:
        mesh: the devices.
        draw: e.g. `functools.partial(draw_users, max_len=50)`; its results have rows first.
        data_axes: mesh axes, whose sizes must divide B.

    Raises:
        ValueError: if the mesh has no such axis.
    """
    for axis in data_axes:
        _size(mesh, axis)
    whole, by_row = PartitionSpec(), PartitionSpec(tuple(data_axes))
    spread = jax.shard_map(
        draw,
        mesh=mesh,
        in_specs=(whole, whole, by_row),
        out_specs=by_row,
        check_vma=False,  # loops that start from constants are taken for unsharded ones
    )
    return jax.jit(spread)


def _size(mesh: Mesh, axis: str) -> int:
    if axis not in mesh.shape:
        raise ValueError(f"mesh axis {axis!r} is unknown: the mesh has {tuple(mesh.shape)}")
    return mesh.shape[axis]


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "name", getattr(key, "key", None))) for key in path)
