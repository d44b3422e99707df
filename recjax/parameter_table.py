"""What a training holds on each device: every parameter with its shape, its cut and its bytes.

Works on arrays and on `jax.ShapeDtypeStruct` alike, so that `--dry_run` prints the table of a state
that was never allocated.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

Tree = Any

_MIB = 1 << 20
_WIDTH = 160  # columns of the file


@dataclass(frozen=True)
class Parameter:
    """One leaf; `spec` says which axes of the mesh each dimension is cut over."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    spec: str
    device_bytes: int


def list_parameters(tree: Tree) -> list[Parameter]:
    """Lists the leaves of a tree, arrays or abstract ones with shardings."""
    return [
        Parameter(
            path=jax.tree_util.keystr(path, simple=True, separator="/"),
            shape=tuple(leaf.shape),
            dtype=str(leaf.dtype),
            spec=_spec(leaf.sharding),
            device_bytes=device_bytes(leaf),
        )
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def device_bytes(tree: Tree) -> int:
    """Returns the bytes of a tree on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def summary_line(parameters: list[Parameter]) -> str:
    """Returns the totals and the largest parameter; `parameter_table` has the rest."""
    count = sum(math.prod(parameter.shape) for parameter in parameters)
    total = sum(parameter.device_bytes for parameter in parameters)
    largest = max(parameters, key=lambda parameter: parameter.device_bytes)
    return (
        f"{count:,} parameters of all seeds, {total / _MIB:,.2f} MiB a device, "
        f"{largest.device_bytes / _MIB:,.2f} of them {largest.path}"
    )


def parameter_table(parameters: list[Parameter]) -> Table:
    """Returns the whole table, totals below."""
    table = Table(show_footer=True)
    count = sum(math.prod(parameter.shape) for parameter in parameters)
    total = sum(parameter.device_bytes for parameter in parameters)
    table.add_column("parameter", f"{count:,} parameters", no_wrap=True)
    for title in ("shape", "dtype", "cut over"):
        table.add_column(title)
    table.add_column("bytes a device", f"{total:,}", justify="right")
    for parameter in parameters:
        shape, size = str(list(parameter.shape)), f"{parameter.device_bytes:,}"
        table.add_row(parameter.path, shape, parameter.dtype, parameter.spec, size)
    return table


def write_parameters(parameters: list[Parameter], path: Path) -> None:
    """Writes the whole table to a text file."""
    with path.open("w") as file:
        Console(file=file, width=_WIDTH, markup=False).print(parameter_table(parameters))


def _spec(sharding: Any) -> str:
    """Names the mesh axes by dimension, e.g. "-, fsdp x tensor"; "" when it lies whole."""
    axes = tuple(getattr(sharding, "spec", ()))  # only a named sharding has one
    if not any(axes):
        return ""
    named = [(part,) if isinstance(part, str) else part or () for part in axes]
    return ", ".join(" x ".join(part) or "-" for part in named)
