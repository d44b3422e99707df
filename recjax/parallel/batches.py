"""Host batches to devices: rows over data x fsdp, members never split."""

import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.parallel.rules import mesh_axes

Batch = Mapping[str, np.ndarray]
UNOPTIMIZED: dict[str, dict[str, str | bool]] = {"cpu": {"xla_backend_optimization_level": "0"}}


def member_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of [M, B, ...]: rows over data x fsdp."""
    return NamedSharding(mesh, PartitionSpec(None, mesh_axes(mesh, "batch")))


def rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of [B, ...]: rows over data x fsdp."""
    return NamedSharding(mesh, PartitionSpec(mesh_axes(mesh, "batch")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put(batch: Batch, sharding: NamedSharding) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch on the devices.

    Args:
        batch: arrays that all have the sharded axis; their local part on this process.
        sharding: where they go.

    Raises:
        ValueError: when the rows do not divide over the devices.
    """
    with jax.transfer_guard_host_to_device("allow"):  # of several processes JAX calls it implicit
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
            for name, value in batch.items()
        }


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Returns the global rows int64 [b] that this process's devices hold, ascending.

    They need not be neighbours: a mesh may order the devices of several hosts as their network
    lies. Along other axes than data and fsdp several processes may hold the same rows.
    """
    places = rows(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[place] for place in places]))


def check_rows(batch_size: int, mesh: Mesh, accumulate_steps: int = 1) -> None:
    """Raises ValueError when a batch does not divide over parts and the data and fsdp axes."""
    if accumulate_steps < 1:
        raise ValueError(f"accumulate_steps must be at least 1, got {accumulate_steps}")
    devices = math.prod(mesh.shape[axis] for axis in mesh_axes(mesh, "batch"))
    size = devices * accumulate_steps
    if batch_size % size:
        parts = f" x accumulate_steps = {accumulate_steps}" if accumulate_steps > 1 else ""
        raise ValueError(
            f"batch_size = {batch_size} does not divide over {devices} devices (data x fsdp)"
            f"{parts}; {max(size, round(batch_size / size) * size)} does"
        )
