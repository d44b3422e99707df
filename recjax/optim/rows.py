"""Optimizers of embedding tables [V, D] that keep one number per row, and leave idle rows alone.

A row whose gradient is zero keeps its values and its moments, bit for bit. Mind that the softmax
over the whole catalogue gives every item's row a gradient; idle are rows of other losses, of items
that no one sampled, and those beyond the vocabulary. The gradient itself is dense.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any


class RowAdagradState(NamedTuple):
    """Sums of mean squared gradients, float32 [V] per table."""

    squares: Tree


class RowAdamState(NamedTuple):
    """Per table: first moments [V, D], second moments [V], updates so far int32 [V]."""

    first: Tree
    second: Tree
    count: Tree


def scale_by_row_adagrad(epsilon: float = 1e-8) -> optax.GradientTransformation:
    """Returns Adagrad with one accumulator per table row: s_v += mean_d g_vd^2, g_v / sqrt(s_v).

    Reference:
        Duchi et al. (2011), "Adaptive Subgradient Methods"; one accumulator per row as in Naumov
        et al. (2019), "DLRM", and its successors (FBGEMM, TorchRec).
    """

    def update(grads: Tree, state: RowAdagradState, params: Tree = None) -> tuple[Tree, Any]:
        del params
        squares = jax.tree.map(lambda s, g: s + _mean_square(g), state.squares, grads)
        scaled = jax.tree.map(lambda g, s: g / _column(jnp.sqrt(s) + epsilon), grads, squares)
        return scaled, RowAdagradState(squares)

    return optax.GradientTransformation(lambda params: RowAdagradState(_rows(params)), update)


def scale_by_row_adam(
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """Returns lazy Adam: rows without gradient stay, moments included; second moments per row.

    Each row counts its own updates, so that a rare row's first step is corrected as any first step.

    Reference:
        Kingma & Ba (2015), "Adam", Alg. 1, with the mean over a row in place of its squares.
    """

    def init(params: Tree) -> RowAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RowAdamState(zeros, _rows(params), _rows(params, jnp.int32))

    def update(grads: Tree, state: RowAdamState, params: Tree = None) -> tuple[Tree, Any]:
        del params
        count = jax.tree.map(lambda n, g: n + has_gradient(g), state.count, grads)
        first = jax.tree.map(
            lambda m, g: jnp.where(_column(has_gradient(g)), beta1 * m + (1 - beta1) * g, m),
            state.first,
            grads,
        )
        second = jax.tree.map(
            lambda v, g: jnp.where(has_gradient(g), beta2 * v + (1 - beta2) * _mean_square(g), v),
            state.second,
            grads,
        )

        def one(g: jax.Array, m: jax.Array, v: jax.Array, n: jax.Array) -> jax.Array:
            steps = jnp.maximum(n, 1).astype(jnp.float32)
            root = jnp.sqrt(v / (1 - beta2**steps)) + epsilon
            scaled = m / _column((1 - beta1**steps) * root)
            return jnp.where(_column(has_gradient(g)), scaled, 0)

        return jax.tree.map(one, grads, first, second, count), RowAdamState(first, second, count)

    return optax.GradientTransformation(init, update)


def add_row_l2(factor: float) -> optax.GradientTransformation:
    """Returns the gradient of factor / 2 x squared norm of the rows that have a gradient."""

    def update(grads: Tree, state: Any, params: Tree = None) -> tuple[Tree, Any]:
        with_l2 = jax.tree.map(
            lambda g, p: g + factor * jnp.where(_column(has_gradient(g)), p, 0), grads, params
        )
        return with_l2, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def has_gradient(grads: jax.Array) -> jax.Array:
    """Returns bool [V]: rows of a table's gradient [V, D] that are not all zero."""
    return jnp.any(grads != 0, axis=-1)


def _rows(params: Tree, dtype: Any = jnp.float32) -> Tree:
    return jax.tree.map(lambda table: jnp.zeros(table.shape[:1], dtype), params)


def _mean_square(grads: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(grads), axis=-1)


def _column(values: jax.Array) -> jax.Array:
    return values[:, None]
