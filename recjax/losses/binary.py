"""Sigmoid cross-entropy for yes-or-no labels (clicks). Called by `recjax.tasks.click`."""

import jax
import optax


def sigmoid_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the weighted sum of binary cross-entropies, in nats, and the sum of weights.

    Args:
        logits: float [B].
        labels: float [B], probabilities of yes in [0, 1].
        weights: float [B], 0 on padding.

    Returns:
        (sum, weight), float32 scalars; both 0 when every row is padding.

    Example:
        >>> import jax.numpy as jnp
        >>> total, weight = sigmoid_cross_entropy(jnp.zeros(2), jnp.array([0.0, 1.0]), jnp.ones(2))
        >>> round(float(total / weight), 4)
        0.6931
    """
    losses = optax.sigmoid_binary_cross_entropy(logits.astype("float32"), labels)
    return (losses * weights).sum(), weights.sum()
