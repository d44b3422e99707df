"""Metrics as pure functions of scores, ranks, labels and weights, on the device or in numpy.

What depends on users, slices or confidence lives in `recjax.evaluation`. Functions of ranks and of
labels take numpy arrays (and then return numpy) as well as jax arrays.
"""

from recjax.metrics.histogram import auc_of_histogram, score_histogram
from recjax.metrics.labels import (
    auc,
    average_precision,
    calibration_bins,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    normalised_entropy,
    top_share,
    weighted_sum,
)
from recjax.metrics.ranks import (
    hit_rate_at,
    mrr,
    ndcg_at,
    precision_at,
    rank_of_target,
    ranks_and_top_items,
    recall_at,
)

__all__ = [
    "auc",
    "auc_of_histogram",
    "average_precision",
    "calibration_bins",
    "expected_calibration_error",
    "grouped_auc",
    "hit_rate_at",
    "log_loss",
    "mrr",
    "ndcg_at",
    "normalised_entropy",
    "precision_at",
    "rank_of_target",
    "ranks_and_top_items",
    "recall_at",
    "score_histogram",
    "top_share",
    "weighted_sum",
]
