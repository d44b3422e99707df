"""Gradients of losses given as (sum, weight): divided once, whatever parts a batch is cut into.

Called by `recjax.step`; knows nothing of tasks, optimizers or members.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Losses = Callable[[Tree, Tree], dict[str, tuple[jax.Array, jax.Array]]]


def compute_gradients(
    losses: Losses, params: Tree, batch: Tree, *, parts: int = 1, axis_name: str | None = None
) -> tuple[Tree, dict[str, jax.Array]]:
    """Returns the gradient of the losses' sum and the losses, each divided by its whole weight.

    The weights of all parts come first; the compiler drops all but them from that pass. A loss that
    compares rows with each other sees one part at a time.

    Args:
        losses: (params, rows of the batch) -> {name: (sum, weight)}.
        params: what the gradient is for.
        batch: tree of [B, ...].
        parts: how many are worked on one after another; a divisor of B (static).
        axis_name: the mapped axis to sum over, None where the compiler does it.
    """

    def weights(part: Tree) -> dict[str, jax.Array]:
        return {name: weight for name, (_, weight) in losses(params, part).items()}

    def gradient(part: Tree) -> tuple[Tree, dict[str, jax.Array]]:
        def total(params: Tree) -> tuple[jax.Array, dict[str, jax.Array]]:
            sums = losses(params, part)
            whole = {name: weight for name, (_, weight) in sums.items()} if parts == 1 else known
            whole = sum_over_devices(jax.lax.stop_gradient(whole), axis_name)
            means = {n: value / jnp.maximum(whole[n], 1e-9) for n, (value, _) in sums.items()}
            return jnp.sum(jnp.stack(list(means.values()))), means

        return jax.grad(total, has_aux=True)(params)

    known = {} if parts == 1 else sum_over_parts(weights, batch, parts)
    grads, means = sum_over_devices(sum_over_parts(gradient, batch, parts), axis_name)
    return grads, means


def sum_over_parts(function: Callable[[Tree], Tree], batch: Tree, parts: int) -> Tree:
    """Sums function(part) over parts of a batch, one after another.

    Part i has the rows i, i + parts, ...: of rows that are cut over devices, each device then works
    on its own in every part, and nothing moves.

    Args:
        function: part, a tree of [B / parts, ...], -> tree of sums.
        batch: tree of [B, ...].
        parts: a divisor of B (static).
    """
    if parts == 1:
        return function(batch)
    split = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0), batch
    )
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], split))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Tree, part: Tree) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, split)[0]


def sum_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Sums leaves [...] over a mapped axis; None where the compiler does it."""
    return jax.lax.psum(tree, axis_name) if axis_name else tree
