"""Connections between the processes of a mesh of CPUs, opened while all are together.

The library that carries collectives between CPUs (Gloo) connects a group of devices at the group's
first collective, and gives up when a process comes 30 s after the others: so long may one compile
longer than another on a busy machine. Once connected they wait for each other for half an hour.
Called by the jit engine; GPUs and TPUs have connections of their own.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def open_connections(mesh: Mesh) -> None:
    """Runs a small sum over every group of devices that a program on the mesh may sum over.

    Does nothing where one process has all devices, or they are no CPUs. All processes must call it.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    spec = PartitionSpec(mesh.axis_names)
    one_each = jax.device_put(jnp.zeros(mesh.size), NamedSharding(mesh, spec))
    add = jax.shard_map(
        lambda x: jnp.stack([jax.lax.psum(x, group) for group in axis_groups(mesh)]),
        mesh=mesh,
        in_specs=spec,
        out_specs=PartitionSpec(None, mesh.axis_names),
    )
    jax.block_until_ready(jax.jit(add)(one_each))


def axis_groups(mesh: Mesh) -> Sequence[tuple[str, ...]]:
    """Returns the sets of axes with several devices.

    Example:
        >>> from recjax.parallel import make_mesh
        >>> axis_groups(make_mesh({"data": 4, "tensor": 2}, jax.devices()[:8]))
        [('data',), ('tensor',), ('data', 'tensor')]
    """
    wide = [name for name, size in mesh.shape.items() if size > 1]
    sizes = range(1, len(wide) + 1)
    return [group for size in sizes for group in itertools.combinations(wide, size)]
