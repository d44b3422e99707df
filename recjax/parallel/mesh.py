"""The device mesh, built in one place."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from recjax.parallel.rules import AXES


def make_mesh(axes: dict[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with the axes `data`, `fsdp` and `tensor`.

    Args:
        axes: axis name to size; at most one size is -1 and takes what the others leave; an axis
            that is not named has size 1.
        devices: what it is made of; None: all devices there are.

    Returns:
        Mesh of automatic axes (`jax.make_mesh` alone would make explicit ones).

    Raises:
        ValueError: for an unknown axis or a size below 1, and when the sizes do not multiply to the
            number of devices.

    Example:
        >>> make_mesh({"data": -1}).axis_names
        ('data', 'fsdp', 'tensor')
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(axes, len(devices))
    return jax.make_mesh(
        tuple(sizes[name] for name in AXES),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices,
    )


def _sizes(axes: dict[str, int], count: int) -> dict[str, int]:
    """Axis sizes, -1 resolved, all three axes named."""
    unknown = sorted(set(axes) - set(AXES))
    if unknown:
        raise ValueError(f"parallel.mesh: unknown axis {unknown[0]!r}; known: {', '.join(AXES)}")
    if list(axes.values()).count(-1) > 1:
        raise ValueError(f"parallel.mesh = {axes}: only one axis may be -1")
    if any(size < 1 and size != -1 for size in axes.values()):
        raise ValueError(f"parallel.mesh = {axes}: a size is a positive number, or -1 for the rest")
    known = math.prod(size for size in axes.values() if size != -1)
    sizes = {name: count // known if size == -1 else size for name, size in axes.items()}
    if math.prod(sizes.values()) != count:
        raise ValueError(
            f"parallel.mesh = {axes} asks for {math.prod(sizes.values()) or known} devices, "
            f"there are {count}"
        )
    return dict.fromkeys(AXES, 1) | sizes
