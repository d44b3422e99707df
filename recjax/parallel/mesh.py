"""The device mesh, built in one place."""

import math

import jax
from jax.sharding import AxisType, Mesh


def make_mesh(axes: dict[str, int]) -> Mesh:
    """Returns a mesh with named axes over all devices.

    Args:
        axes: axis name to size; at most one size is -1 and takes what the others leave.

    Returns:
        Mesh of automatic axes (`jax.make_mesh` alone would make explicit ones).

    Raises:
        ValueError: when the sizes do not multiply to the number of devices.

    Example:
        >>> make_mesh({"data": -1}).axis_names
        ('data',)
    """
    count = jax.device_count()
    known = math.prod(size for size in axes.values() if size != -1)
    if list(axes.values()).count(-1) > 1:
        raise ValueError(f"parallel.mesh = {axes}: only one axis may be -1")
    sizes = {name: count // known if size == -1 else size for name, size in axes.items()}
    if math.prod(sizes.values()) != count:
        raise ValueError(
            f"parallel.mesh = {axes} asks for {math.prod(sizes.values())} devices, "
            f"there are {count}"
        )
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes)
    )
