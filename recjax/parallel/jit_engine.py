"""jit over a named mesh: sharded arguments in, the compiler places the collectives.

Where a state lies follows from `rules` and the logical names of its parameters; functions are
traced with the mesh and the rules in force, so that models can name the axes of activations.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from recjax.parallel.batches import (
    UNOPTIMIZED,
    Batch,
    check_rows,
    local_rows,
    member_rows,
    put,
    replicated,
    rows,
)
from recjax.parallel.connections import open_connections
from recjax.parallel.rules import flax_rules, place, place_constants

Tree = Any


class JitEngine:
    """Compiles functions of (state cut by the rules, batch split by rows, constants).

    `logical` is everywhere a tree of `PartitionSpec` of logical names, one per parameter; without
    it all leaves are whole on every device.
    """

    axis_name: str | None = None  # collectives are the compiler's work

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        open_connections(mesh)

    def put_constants(self, constants: Tree) -> Tree:
        """Puts constants on the devices: whole, large ones by item id cut."""
        return jax.device_put(constants, place_constants(self.mesh, constants))

    def abstract(self, tree: Tree, logical: Tree = None) -> Tree:
        """Returns shapes with the placement that compiled functions give."""
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            tree,
            self._place(tree, logical),
        )

    def put_member_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts a training batch [M, B, ...] on the devices."""
        return put(batch, member_rows(self.mesh))

    def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts an evaluation batch [B, ...] on the devices."""
        return put(batch, rows(self.mesh))

    def check_rows(self, batch_size: int, accumulate_steps: int = 1) -> None:
        """Raises ValueError when a batch does not divide over the devices and parts."""
        check_rows(batch_size, self.mesh, accumulate_steps)

    def local_rows(self, batch_size: int) -> np.ndarray:
        """Returns the global rows of a batch that this process feeds, ascending."""
        return local_rows(batch_size, self.mesh)

    def compile_once(
        self, function: Callable[..., Tree], logical: Tree = None
    ) -> Callable[..., Tree]:
        """Compiles a function that runs once or twice; its result is placed from the start.

        Compiled without optimization: the random draws of an initialiser take seconds to optimize
        and milliseconds to run. Traced without the mesh: Flax would constrain the axes of unshaped
        kernels.
        """
        options = UNOPTIMIZED.get(self.mesh.devices.flat[0].platform)

        def run(*arguments: Tree) -> Tree:
            out = self._place(jax.eval_shape(function, *arguments), logical)
            return jax.jit(function, out_shardings=out, compiler_options=options)(*arguments)

        return run

    def compile_step(
        self, step: Callable[..., tuple[Tree, Tree]], logical: Tree = None
    ) -> Callable[..., Any]:
        """Compiles step(state, batch, constants) -> (state, metrics); the state is donated."""
        compiled: dict[Any, Callable[..., Any]] = {}

        def run(state: Tree, batch: Tree, constants: Tree) -> Any:
            key = jax.tree.structure((state, constants))
            if key not in compiled:
                compiled[key] = self._jit_step(step, logical, state, constants)
            with self._in_force():
                return compiled[key](state, batch, constants)

        return run

    def lower_step(
        self, step: Callable[..., tuple[Tree, Tree]], logical: Tree, *arguments: Tree
    ) -> Any:
        """Lowers a step for abstract (state, batch, constants), as `compile_step` would run it."""
        state, batch, constants = arguments
        with self._in_force():
            return self._jit_step(step, logical, state, constants).lower(state, batch, constants)

    def compile_rows(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """Compiles function(params, batch [B, ...], constants) -> arrays [M, B, ...].

        Parameters and constants are taken as they lie.
        """
        compiled = jax.jit(
            function,
            in_shardings=(None, rows(self.mesh), None),
            out_shardings=replicated(self.mesh),
        )

        def run(params: Tree, batch: Tree, constants: Tree) -> Tree:
            with self._in_force():
                return compiled(params, batch, constants)

        return run

    def _jit_step(self, step: Any, logical: Tree, state: Tree, constants: Tree) -> Any:
        placed = self._place(state, logical)
        return jax.jit(
            step,
            in_shardings=(
                placed,
                member_rows(self.mesh),
                place_constants(self.mesh, constants),
            ),
            out_shardings=(placed, replicated(self.mesh)),
            donate_argnums=0,
        )

    def _place(self, tree: Tree, logical: Tree) -> Tree:
        return place(self.mesh, {} if logical is None else logical, tree)

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(flax_rules(self.mesh)):
            yield
