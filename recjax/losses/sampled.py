"""Losses of a target against drawn negatives: sampled softmax and generalised BCE.

They see logits, not tables: what is drawn and looked up lives in `recjax.losses.catalogue`, which
calls these. Draws that equal the target (accidental hits) take no part.
"""

import jax
import jax.numpy as jnp

_NEGATIVE = -1e30  # finite: a row whose draws are all hits must not make NaN of the gradient


def sampled_cross_entropy(
    target_logits: jax.Array,
    negative_logits: jax.Array,
    log_expected: jax.Array,
    hits: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns softmax cross-entropy with the other items' sum of exponentials estimated by draws.

    exp(logit) / (K q), summed over K draws that are not the target, is an unbiased estimate of the
    sum over all other items; the target's own term is exact. The loss, its logarithm, is below
    the full one on average and tends to it as K grows.

    Args:
        target_logits: float32 [B, S].
        negative_logits: float32 [B, S, K].
        log_expected: float32 [B, K], log(K q) of each draw.
        hits: bool [B, S, K], True where a draw is the target.
        weights: float32 [B, S], 0 for slots without a target.

    Returns:
        (sum, weight): float32 scalars, nats and sum of weights.

    Reference:
        Bengio and Senecal (2008), "Adaptive Importance Sampling to Accelerate Training of a
        Neural Probabilistic Language Model"; Jean et al. (2015), "On Using Very Large
        Target Vocabulary for Neural Machine Translation".
    """
    corrected = jnp.where(hits, _NEGATIVE, negative_logits - log_expected[:, None, :])
    others = jax.nn.logsumexp(corrected, axis=-1)
    losses = jax.nn.softplus(others - target_logits)
    return (losses * weights).sum(), weights.sum()


def generalised_bce(
    target_logits: jax.Array,
    negative_logits: jax.Array,
    hits: jax.Array,
    weights: jax.Array,
    *,
    beta: float,
) -> tuple[jax.Array, jax.Array]:
    """Returns -(beta log sigmoid(target) + sum_k log(1 - sigmoid(negative_k))) / (K + 1).

    Args:
        target_logits: float32 [B, S].
        negative_logits: float32 [B, S, K].
        hits: bool [B, S, K], True where a draw is the target.
        weights: float32 [B, S], 0 for slots without a target.
        beta: power of the target's probability, see `gbce_beta` (static).

    Returns:
        (sum, weight): float32 scalars, nats and sum of weights.

    Reference:
        Petrov and Macdonald (2023), "gSASRec: Reducing Overconfidence in Sequential
        Recommendation Trained with Negative Sampling", RecSys, definition of gBCE.
    """
    negatives = jnp.where(hits, 0, jax.nn.softplus(negative_logits)).sum(axis=-1)
    losses = (beta * jax.nn.softplus(-target_logits) + negatives) / (negative_logits.shape[-1] + 1)
    return (losses * weights).sum(), weights.sum()


def gbce_beta(num_negatives: int, num_items: int, calibration: float) -> float:
    """Returns beta = alpha (t (1 - 1 / alpha) + 1 / alpha), alpha the sampling rate.

    Args:
        num_negatives: drawn per target.
        num_items: of the catalogue; alpha = num_negatives / (num_items - 1), at most 1.
        calibration: t in [0, 1]; 0 is plain BCE (beta = 1), 1 fully corrects for the sampling
            (beta = alpha).

    Reference:
        Petrov and Macdonald (2023), the equation of beta by t.
    """
    alpha = min(1.0, num_negatives / max(1, num_items - 1))
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
