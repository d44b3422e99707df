"""AUC and log loss of a stream: counts in bins of the log-odds, which add over batches and hosts.

The counts of any split of the data add up to those of the whole. Rows in the same bin are ties, so
the AUC is that of rounded log-odds; `auc_of_histogram` also says how far off it can be.
"""

from typing import Any

from recjax.metrics.labels import _or_one

Array = Any  # numpy.ndarray or jax.Array; the result is of the same kind
LIMIT = 16.0  # log-odds beyond it, a chance of one in nine million, fall into the last bins


def score_histogram(logits: Array, labels: Array, weights: Array, *, num_bins: int = 4096) -> Array:
    """Counts weights by label and bin of the log-odds.

    Args:
        logits: float [N], log-odds.
        labels: float [N]; 1 is yes, 0 no.
        weights: float [N], 0 on padding.
        num_bins: equal bins of the log-odds between -16 and 16 (static).

    Returns:
        float [2, num_bins]: weight of no and of yes. Histograms add.
    """
    xp = logits.__array_namespace__()
    place = xp.clip((logits + LIMIT) * (num_bins / (2 * LIMIT)), 0, num_bins - 1).astype("int32")
    order = xp.argsort(place)
    edges = xp.searchsorted(place[order], xp.arange(num_bins + 1))
    rows = []
    for part in (weights * (1 - labels), weights * labels):
        upto = xp.concatenate([xp.zeros_like(part[:1]), xp.cumsum(part[order])])
        rows.append(upto[edges[1:]] - upto[edges[:-1]])
    return xp.stack(rows)


def auc_of_histogram(histogram: Array) -> tuple[Array, Array]:
    """Returns the AUC of a `score_histogram` float [2, bins], and the most it can be off.

    Returns:
        Scalars; NaN when one of the two classes has no weight.

    Example:
        >>> import numpy as np
        >>> counts = score_histogram(np.array([-1.0, 2.0]), np.array([0.0, 1.0]), np.ones(2))
        >>> [float(value) for value in auc_of_histogram(counts)]
        [1.0, 0.0]
    """
    xp = histogram.__array_namespace__()
    no, yes = (row / _or_one(xp, row.sum()) for row in histogram)
    below = xp.cumsum(no) - no
    tied = (yes * no).sum() / 2
    defined = (no.sum() > 0) & (yes.sum() > 0)
    area = (yes * below).sum() + tied
    return xp.where(defined, area, xp.nan), xp.where(defined, tied, xp.nan)
