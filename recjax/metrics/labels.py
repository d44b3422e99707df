"""Metrics of yes-or-no labels, from scores or log-odds, with weights (0 on padding).

Each is exact; what is mergeable is given as sums. Streams too long for memory go through
`recjax.metrics.histogram`.
"""

from typing import Any

Array = Any  # numpy.ndarray or jax.Array; the result is of the same kind


def weighted_sum(values: Array, weights: Array) -> tuple[Array, Array]:
    """Returns (sum, weight) of per-row values; rows of weight 0 count nothing, even if NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> total, weight = weighted_sum(jnp.array([1.0, jnp.nan]), jnp.array([2.0, 0.0]))
        >>> float(total), float(weight)
        (2.0, 2.0)
    """
    xp = values.__array_namespace__()
    return xp.where(weights > 0, values * weights, 0.0).sum(), weights.sum()


def auc(scores: Array, labels: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve, exact, equal scores counting half.

    Sums run in the dtype of the scores: in float32 the result is good to about 1e-6.

    Args:
        scores: float [N]; any increasing function of the probability.
        labels: float [N]; 1 is yes, 0 no.
        weights: float [N], 0 on padding; None for ones.

    Returns:
        Scalar; NaN when one of the two classes has no weight.

    Reference:
        Fawcett (2006), "An introduction to ROC analysis", Sec. 7.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(auc(jnp.array([0.1, 0.4, 0.4, 0.8]), jnp.array([0, 0, 1, 1]))), 4)
        0.875
    """
    xp = scores.__array_namespace__()
    weights = xp.ones_like(scores) if weights is None else weights.astype(scores.dtype)
    order = xp.argsort(scores)
    ordered = scores[order]
    positive = (weights * labels)[order]
    negative = (weights * (1 - labels))[order]
    positive, negative = (part / _or_one(xp, part.sum()) for part in (positive, negative))
    below = xp.concatenate([xp.zeros_like(negative[:1]), xp.cumsum(negative)])
    first = xp.searchsorted(ordered, ordered, side="left")
    last = xp.searchsorted(ordered, ordered, side="right")
    area = (positive * (below[first] + below[last]) / 2).sum()
    defined = (positive.sum() > 0) & (negative.sum() > 0)
    return xp.where(defined, area, xp.nan)


def log_loss(logits: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Returns (sum, weight) of binary cross-entropies in nats, from log-odds.

    Example:
        >>> import jax.numpy as jnp
        >>> total, weight = log_loss(jnp.zeros(2), jnp.array([0.0, 1.0]), jnp.ones(2))
        >>> round(float(total / weight), 4)
        0.6931
    """
    xp = logits.__array_namespace__()
    losses = xp.logaddexp(xp.zeros_like(logits), logits) - labels * logits
    return weighted_sum(losses, weights)


def calibration_bins(
    probabilities: Array, labels: Array, weights: Array, *, num_bins: int = 10
) -> tuple[Array, Array, Array]:
    """Sums of weight, predicted probability and label in equal-width bins of the probability.

    Sums add up over batches. The reliability curve is (probability / weight, label / weight).

    Args:
        probabilities: float [N] in [0, 1]; 1 falls into the last bin.
        labels: float [N].
        weights: float [N], 0 on padding.
        num_bins: number of bins (static).

    Returns:
        Three float [num_bins] arrays: weight, weight x probability, weight x label.
    """
    xp = probabilities.__array_namespace__()
    index = xp.clip((probabilities * num_bins).astype("int32"), 0, num_bins - 1)
    member = (index[:, None] == xp.arange(num_bins)[None, :]) * weights[:, None]
    return member.sum(axis=0), probabilities @ member, labels.astype(member.dtype) @ member


def expected_calibration_error(
    bin_weights: Array, bin_probabilities: Array, bin_labels: Array
) -> Array:
    """Returns the weighted mean |label rate - probability| over the bins of `calibration_bins`.

    Reference:
        Naeini et al. (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning".

    Example:
        >>> import jax.numpy as jnp
        >>> half = jnp.full(4, 0.5)
        >>> bins = calibration_bins(half, jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.ones(4))
        >>> float(expected_calibration_error(*bins))
        0.25
    """
    xp = bin_weights.__array_namespace__()
    return xp.abs(bin_labels - bin_probabilities).sum() / _or_one(xp, bin_weights.sum())


def normalised_entropy(logits: Array, labels: Array, weights: Array) -> Array:
    """Returns the log loss over that of always saying the mean rate; below 1 is better than that.

    Args:
        logits: float [N], log-odds.
        labels: float [N]; 1 is yes, 0 no.
        weights: float [N], 0 on padding.

    Returns:
        Scalar; NaN when one of the two classes has no weight.

    Reference:
        He et al. (2014), "Practical Lessons from Predicting Clicks on Ads at Facebook".
    """
    xp = logits.__array_namespace__()
    total, weight = log_loss(logits, labels, weights)
    rate = (labels * weights).sum() / _or_one(xp, weight)
    defined = (rate > 0) & (rate < 1)
    safe = xp.where(defined, rate, 0.5)
    entropy = -(safe * xp.log(safe) + (1 - safe) * xp.log1p(-safe))
    return xp.where(defined, total / _or_one(xp, weight) / entropy, xp.nan)


def average_precision(scores: Array, labels: Array, weights: Array | None = None) -> Array:
    """Area under the precision-recall curve as a step function; equal scores enter together.

    Args:
        scores: float [N].
        labels: float [N]; 1 is yes, 0 no.
        weights: float [N], 0 on padding; None for ones.

    Returns:
        Scalar; NaN when no yes has weight.

    Reference:
        Davis and Goadrich (2006), "The Relationship Between Precision-Recall and ROC Curves".

    Example:
        >>> import numpy as np
        >>> value = average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        >>> round(float(value), 4)
        0.8333
    """
    xp = scores.__array_namespace__()
    weights = xp.ones_like(scores) if weights is None else weights.astype(scores.dtype)
    order = xp.argsort(-scores)
    ordered, weights = -scores[order], weights[order]
    positive = weights * labels[order]
    reached = xp.searchsorted(ordered, ordered, side="right") - 1  # the last of equal scores
    precision = xp.cumsum(positive)[reached] / _or_one_each(xp, xp.cumsum(weights)[reached])
    total = positive.sum()
    return xp.where(total > 0, (positive * precision).sum() / _or_one(xp, total), xp.nan)


def grouped_auc(
    scores: Array, labels: Array, groups: Array, weights: Array | None = None
) -> tuple[Array, Array]:
    """Sums the AUC within each group times the group's weight; groups of one class are left out.

    Args:
        scores: float [N]; equal ones count half.
        labels: float [N]; 1 is yes, 0 no.
        groups: int [N], such as users.
        weights: float [N], 0 on padding; None for ones.

    Returns:
        (sum, weight) scalars; their ratio is the grouped AUC (GAUC). Sums of disjoint groups add.

    Reference:
        Zhou et al. (2018), "Deep Interest Network", with impressions as weights.

    Example:
        >>> import numpy as np
        >>> total, weight = grouped_auc(
        ...     np.array([0.1, 0.9, 0.5, 0.2]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
        >>> float(total / weight)
        0.5
    """
    xp = scores.__array_namespace__()
    weights = xp.ones_like(scores) if weights is None else weights.astype(scores.dtype)
    order = xp.lexsort((scores, groups))
    scores, groups, weights = scores[order], groups[order], weights[order]
    positive = weights * labels[order]
    negative = weights - positive
    first, last = (xp.searchsorted(groups, groups, side=side) for side in ("left", "right"))
    upto = xp.concatenate([xp.zeros_like(negative[:1]), xp.cumsum(negative)])
    changes = (scores[1:] != scores[:-1]) | (groups[1:] != groups[:-1])
    run = xp.concatenate([xp.zeros(1, dtype=int), xp.cumsum(changes)])  # equal scores of a group
    run_first, run_last = (xp.searchsorted(run, run, side=side) for side in ("left", "right"))
    below = (upto[run_first] + upto[run_last]) / 2 - upto[first]
    negatives = upto[last] - upto[first]
    positives, whole = (_sums(xp, part, first, last) for part in (positive, weights))
    mixed = (positives > 0) & (negatives > 0)
    share = xp.where(mixed, positive / _or_one_each(xp, positives), 0)
    areas = share * below / _or_one_each(xp, negatives) * whole
    return areas.sum(), xp.where(mixed, weights, 0).sum()


def top_share(
    scores: Array, labels: Array, weights: Array | None = None, *, share: float
) -> tuple[Array, Array, Array]:
    """Precision, recall and lift of the rows with the highest scores.

    Of equal scores at the border each row is taken in part, as in the mean over random orders. The
    first k of N rows are the share k / N.

    Args:
        scores: float [N].
        labels: float [N]; 1 is yes, 0 no.
        weights: float [N], 0 on padding; None for ones.
        share: of the weight, in (0, 1].

    Returns:
        Scalars: share of yes in the top, share of all yes that is in the top, and the first over
        the share of yes everywhere; NaN when no yes has weight.

    Raises:
        ValueError: if share is not in (0, 1].

    Example:
        >>> import numpy as np
        >>> found = top_share(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0]), share=0.25)
        >>> [float(value) for value in found]
        [1.0, 0.5, 2.0]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    xp = scores.__array_namespace__()
    weights = xp.ones_like(scores) if weights is None else weights.astype(scores.dtype)
    order = xp.argsort(-scores)
    ordered, weights = -scores[order], weights[order]
    positive = weights * labels[order]
    upto = xp.concatenate([xp.zeros_like(weights[:1]), xp.cumsum(weights)])
    first, last = (xp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    wanted = share * upto[-1]
    part = xp.clip((wanted - upto[first]) / _or_one_each(xp, upto[last] - upto[first]), 0, 1)
    found, total = (positive * part).sum(), positive.sum()
    defined = total > 0
    precision = xp.where(defined, found / _or_one(xp, wanted), xp.nan)
    recall = xp.where(defined, found / _or_one(xp, total), xp.nan)
    rate = total / _or_one(xp, upto[-1])
    return precision, recall, xp.where(defined, precision / _or_one(xp, rate), xp.nan)


def _sums(xp: Any, values: Array, first: Array, last: Array) -> Array:
    """Sums of values [N] from `first` up to `last` [N], one for each."""
    upto = xp.concatenate([xp.zeros_like(values[:1]), xp.cumsum(values)])
    return upto[last] - upto[first]


def _or_one(xp: Any, total: Array) -> Array:
    return xp.where(total > 0, total, xp.ones_like(total))


def _or_one_each(xp: Any, totals: Array) -> Array:
    return xp.where(totals > 0, totals, xp.ones_like(totals))
