"""pmap behind the jit engine's interface: the compatibility path, data axis only.

`jax.pmap` is jit over shard_map underneath and in maintenance; new code should use `jit`. The step
sums its losses and gradients over `axis_name`, so both engines give the same numbers.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.parallel.batches import UNOPTIMIZED, Batch, check_rows

Tree = Any


class PmapEngine:
    """Compiles functions of (replicated tree, batch split over devices, replicated constants)."""

    axis_name: str = "data"

    def __init__(self, mesh: Mesh) -> None:
        others = {name: size for name, size in mesh.shape.items() if name != "data" and size > 1}
        if others:
            raise ValueError(
                f"parallel.engine = 'pmap' knows the data axis only, the mesh has {others} too; "
                "use 'jit' for other axes"
            )
        if jax.process_count() > 1:
            raise ValueError(
                f"parallel.engine = 'pmap' runs in one process, here are {jax.process_count()}; "
                "use 'jit'"
            )
        self.mesh = mesh
        # Where pmap leaves its results: a state that starts there is compiled for once, not twice.
        over = Mesh(mesh.devices.reshape(-1), (self.axis_name,))
        self._whole = NamedSharding(over, PartitionSpec())

    def put_constants(self, constants: Tree) -> Tree:
        """Puts constants on the default device; pmap broadcasts them."""
        return jax.device_put(constants)

    def abstract(self, tree: Tree, logical: Tree = None) -> Tree:
        """Returns shapes, whole on every device."""
        del logical
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._whole), tree
        )

    def put_member_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts a training batch [M, B, ...] on the default device."""
        return jax.device_put(dict(batch))

    def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts an evaluation batch [B, ...] on the default device."""
        return jax.device_put(dict(batch))

    def check_rows(self, batch_size: int, accumulate_steps: int = 1) -> None:
        """Raises ValueError when a batch does not divide over the devices and parts."""
        check_rows(batch_size, self.mesh, accumulate_steps)

    def local_rows(self, batch_size: int) -> np.ndarray:
        """Returns the rows of a batch that this process feeds: all."""
        return np.arange(batch_size)

    def compile_once(
        self, function: Callable[..., Tree], logical: Tree = None
    ) -> Callable[..., Tree]:
        """Compiles a function that runs once or twice, without optimization."""
        del logical
        options = UNOPTIMIZED.get(jax.default_backend())
        return jax.jit(function, out_shardings=self._whole, compiler_options=options)

    def compile_step(
        self, step: Callable[..., tuple[Tree, Tree]], logical: Tree = None
    ) -> Callable[..., Any]:
        """Compiles step(state, batch, constants) -> (state, metrics)."""
        del logical
        mapped = jax.pmap(step, axis_name=self.axis_name, in_axes=(None, 1, None), out_axes=None)
        return lambda state, batch, constants: mapped(
            state, self._split(batch, rows_axis=1), constants
        )

    def compile_rows(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """Compiles function(params, batch [B, ...], constants) -> arrays [M, B, ...]."""
        mapped = jax.pmap(function, in_axes=(None, 0, None), out_axes=1)

        def run(params: Tree, batch: Tree, constants: Tree) -> Tree:
            out = mapped(params, self._split(batch, rows_axis=0), constants)
            return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:]), out)

        return run

    def _split(self, batch: Tree, *, rows_axis: int) -> Tree:
        """Reshapes the row axis B to (devices, B / devices)."""
        count = self.mesh.shape["data"]

        def split(leaf: jax.Array) -> jax.Array:
            shape = leaf.shape
            return leaf.reshape(*shape[:rows_axis], count, -1, *shape[rows_axis + 1 :])

        return jax.tree.map(split, batch)
