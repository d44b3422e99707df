"""jit over a named mesh: sharded arguments in, the compiler places the collectives."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from recjax.parallel.batches import (
    UNOPTIMIZED,
    Batch,
    check_rows,
    member_rows,
    put,
    replicated,
    rows,
)

Tree = Any


class JitEngine:
    """Compiles functions of (replicated tree, sharded batch, replicated constants)."""

    axis_name: str | None = None  # collectives are the compiler's work

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def replicate(self, tree: Tree) -> Tree:
        """Puts a tree whole on every device."""
        return jax.device_put(tree, replicated(self.mesh))

    def abstract(self, tree: Tree) -> Tree:
        """Returns shapes with the placement that `replicate` gives."""
        whole = replicated(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), tree
        )

    def put_member_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts a training batch [M, B, ...] on the devices."""
        return put(batch, member_rows(self.mesh))

    def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts an evaluation batch [B, ...] on the devices."""
        return put(batch, rows(self.mesh))

    def check_rows(self, batch_size: int) -> None:
        """Raises ValueError when a batch does not divide over the devices."""
        check_rows(batch_size, self.mesh)

    def compile_once(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """Compiles a function that runs once or twice; its result is placed from the start.

        Compiled without optimization: the random draws of an initialiser take seconds to optimize
        and milliseconds to run.
        """
        return jax.jit(
            function,
            out_shardings=replicated(self.mesh),
            compiler_options=UNOPTIMIZED.get(self.mesh.devices.flat[0].platform),
        )

    def compile_step(self, step: Callable[..., tuple[Tree, Tree]]) -> Callable[..., Any]:
        """Compiles step(state, batch, constants) -> (state, metrics); the state is donated."""
        whole = replicated(self.mesh)
        return jax.jit(
            step,
            in_shardings=(whole, member_rows(self.mesh), whole),
            out_shardings=(whole, whole),
            donate_argnums=0,
        )

    def compile_rows(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """Compiles function(params, batch [B, ...], constants) -> arrays [M, B, ...]."""
        whole = replicated(self.mesh)
        return jax.jit(function, in_shardings=(whole, rows(self.mesh), whole), out_shardings=whole)
