"""Gradients of losses given as (sum, weight): divided once, whatever parts a batch is cut into.

Called by `recjax.step`; knows nothing of tasks, optimizers or members.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Losses = Callable[[Tree, Tree], dict[str, tuple[jax.Array, jax.Array]]]


def compute_gradients(
    losses: Losses,
    params: Tree,
    batch: Tree,
    *,
    parts: int = 1,
    axis_name: str | None = None,
    surgery: bool = False,
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
        surgery: whether gradients of single losses that work against each other lose that part
            (see `without_conflicts`); costs a backward pass for each loss (static).
    """

    def weights(part: Tree) -> dict[str, jax.Array]:
        return {name: weight for name, (_, weight) in losses(params, part).items()}

    def gradient(part: Tree) -> tuple[Tree, dict[str, jax.Array]]:
        def each(params: Tree) -> tuple[jax.Array, dict[str, jax.Array]]:
            sums = losses(params, part)
            whole = {name: weight for name, (_, weight) in sums.items()} if parts == 1 else known
            whole = sum_over_devices(jax.lax.stop_gradient(whole), axis_name)
            means = {n: value / jnp.maximum(whole[n], 1e-9) for n, (value, _) in sums.items()}
            return jnp.stack(list(means.values())), means

        def total(params: Tree) -> tuple[jax.Array, dict[str, jax.Array]]:
            values, means = each(params)
            return jnp.sum(values), means

        if surgery:
            return jax.jacrev(each, has_aux=True)(params)
        return jax.grad(total, has_aux=True)(params)

    known = {} if parts == 1 else sum_over_parts(weights, batch, parts)
    grads, means = sum_over_devices(sum_over_parts(gradient, batch, parts), axis_name)
    return without_conflicts(grads) if surgery else grads, means


def without_conflicts(grads: Tree) -> Tree:
    """Sums gradients of L losses, each without what works against one of the others.

    A gradient that has a negative product with another one loses its part along it, one other
    after another, in the order of the losses.

    Args:
        grads: tree of [L, ...].

    Returns:
        tree of [...].

    Reference:
        Yu et al. (2020), "Gradient Surgery for Multi-Task Learning" (PCGrad), Alg. 1, in a fixed
        order where theirs is drawn; of two losses there is only one.
    """
    leaves, structure = jax.tree.flatten(grads)
    sizes = [leaf[0].size for leaf in leaves]
    flat = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    total = jnp.zeros(flat.shape[1], flat.dtype)
    for own in range(len(flat)):
        kept = flat[own]
        for other in range(len(flat)):
            if other != own:
                share = (kept @ flat[other]) / jnp.maximum(flat[other] @ flat[other], 1e-30)
                kept = kept - jnp.minimum(share, 0) * flat[other]
        total = total + kept
    pieces = jnp.split(total, list(accumulate(sizes))[:-1])
    shaped = [piece.reshape(leaf.shape[1:]) for piece, leaf in zip(pieces, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


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
