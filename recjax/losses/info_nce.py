"""InfoNCE over a whole batch, both ways, without false negatives.

Called by `recjax.tasks`.
"""

import jax
import jax.numpy as jnp

_NEGATIVE = -1e30  # finite: a row of padding must not make NaN


def info_nce(
    left: jax.Array,
    right: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    scale: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns the weighted sum of symmetric InfoNCE losses, in nats, and the sum of weights.

    Pair i is (left[i], right[i]); its negatives are the other pairs of the batch, over all devices
    under jit, save those of weight 0 and those of the same label: they are no negatives.

    Args:
        left: float32 [N, P], unit vectors.
        right: float32 [N, P], unit vectors.
        labels: int32 [N], what a pair is of; equal labels are never each other's negatives.
        weights: float32 [N], 0 on padding.
        scale: float32 scalar, 1 / temperature.

    Returns:
        (sum, weight), float32 scalars; a pair's loss is the mean of its two directions.

    Reference:
        van den Oord et al. (2018), "Representation Learning with Contrastive Predictive Coding",
        Eq. 4; both ways as in Radford et al. (2021), Fig. 3.

    Example:
        >>> eye = jnp.eye(2)
        >>> total, weight = info_nce(eye, eye, jnp.array([5, 6]), jnp.ones(2), jnp.float32(1))
        >>> round(float(total / weight), 4)  # log(e + 1) - 1
        0.3133
        >>> float(info_nce(eye, eye, jnp.array([5, 5]), jnp.ones(2), jnp.float32(1))[0])
        0.0
    """
    logits = scale * jnp.matmul(left, right.T, preferred_element_type=jnp.float32)
    own = jnp.eye(len(labels), dtype=bool)
    allowed = own | ((labels[:, None] != labels[None, :]) & (weights > 0)[None, :])
    pairs = jnp.diagonal(logits)
    losses = [
        jax.nn.logsumexp(jnp.where(allowed, one_way, _NEGATIVE), axis=-1) - pairs
        for one_way in (logits, logits.T)
    ]
    return ((losses[0] + losses[1]) / 2 * weights).sum(), weights.sum()
