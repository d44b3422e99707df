"""The device mesh, built in one place."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from recjax.parallel.rules import AXES


def make_mesh(axes: dict[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with the axes `data`, `fsdp` and `tensor`.

    Args:
        axes: axis name to size; at most one size is -1 and takes what the others leave; an axis
            that is not named has size 1.
        devices: what it is made of; None: all devices there are.

    Returns:
        Mesh of automatic axes (`jax.make_mesh` alone would make explicit ones). Of several TPU
        slices the first axis that can be cut over them is: they are joined by a slower network.

    Raises:
        ValueError: for an unknown axis or a size below 1, when the sizes do not multiply to the
            number of devices, and when no axis can be cut over the slices.

    Example:
        >>> make_mesh({"data": -1}).axis_names
        ('data', 'fsdp', 'tensor')
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(axes, len(devices))
    shape, types = tuple(sizes[name] for name in AXES), (AxisType.Auto,) * len(AXES)
    # devices of a single slice may lack the attribute; on other platforms it means other things
    slices = {getattr(d, "slice_index", 0) for d in devices if d.platform == "tpu"}
    if len(slices) < 2:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    outer = _cut_over_slices(shape, len(slices))
    inner = tuple(size // count for size, count in zip(shape, outer, strict=True))
    return Mesh(mesh_utils.create_hybrid_device_mesh(inner, outer, devices), AXES, axis_types=types)


def _cut_over_slices(shape: tuple[int, ...], slices: int) -> tuple[int, ...]:
    """Into how many parts each axis is cut over the slices."""
    axis = next((index for index, size in enumerate(shape) if size % slices == 0), None)
    if axis is None:
        sizes = dict(zip(AXES, shape, strict=True))
        raise ValueError(f"parallel.mesh = {sizes}: no axis can be cut over {slices} slices")
    return tuple(slices if index == axis else 1 for index in range(len(shape)))


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
