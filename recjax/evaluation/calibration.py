"""Click metrics: AUC with ties, log loss, calibration, and the floor that only remembers pairs.

Lives here: numbers from labels and predicted probabilities. Not here: means over seeds and
intervals over users (`results`, `statistics`). Called by `results` and the evaluate stage. numpy
and scipy only.
"""

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri

_EPSILON = 1e-7  # probabilities are kept this far from 0 and 1 in the log loss


def auc_contributions(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Splits the AUC into one value per example, whose mean is the AUC.

    A value is the AUC plus the example's influence on it, so that means of values over resampled
    users are the AUC of these users to first order: what the paired bootstrap needs.

    Args:
        labels: [N], 0 or 1, both present.
        scores: float [N], higher = more likely; ties count half.

    Returns:
        float64 [N].

    Raises:
        ValueError: if only one class is present, or a score is NaN.

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988), structural components.
    """
    positive, placement = _placements(labels, scores)
    area = placement[positive].mean()
    share = np.where(positive, positive.mean(), 1.0 - positive.mean())
    return area + (placement - area) / share


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the ROC curve; ties count half.

    Args:
        labels: [N], 0 or 1, both present.
        scores: float [N].

    Raises:
        ValueError: if only one class is present, or a score is NaN.

    Example:
        >>> auc(np.array([0, 1, 1]), np.array([0.3, 0.3, 0.9]))
        0.75
    """
    positive, placement = _placements(labels, scores)
    return float(placement[positive].mean())


def auc_interval(
    labels: np.ndarray, scores: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
    """Returns the AUC and its interval, rows taken as independent of each other.

    Where rows of a user hang together, draw users instead (`results.click_task` does).

    Args:
        labels: [N], 0 or 1, both present.
        scores: float [N]; ties count half.
        level: of the interval, in (0, 1).

    Returns:
        AUC, lower and upper bound, in [0, 1].

    Raises:
        ValueError: if only one class is present, or a score is NaN.

    Reference:
        DeLong, DeLong and Clarke-Pearson (1988).
    """
    positive, placement = _placements(labels, scores)
    area = float(placement[positive].mean())
    parts = (placement[positive], placement[~positive])
    error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts if len(part) > 1))
    reach = float(ndtri(0.5 + level / 2) * error)
    return area, max(0.0, area - reach), min(1.0, area + reach)


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns each example's negative log-likelihood, nats, float64 [N]."""
    clipped = np.clip(np.asarray(probabilities, np.float64), _EPSILON, 1.0 - _EPSILON)
    labels = np.asarray(labels, np.float64)
    return -(labels * np.log(clipped) + (1.0 - labels) * np.log1p(-clipped))


def reliability_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 10
) -> list[dict[str, float | int]]:
    """Compares predicted and observed click rates in bins of equal size (of examples).

    Args:
        labels: [N], 0 or 1.
        probabilities: float [N].
        num_bins: at most so many bins; equal predictions stay in one bin.

    Returns:
        [{"predicted", "observed", "count"}], ascending, without empty bins.
    """
    probabilities = np.asarray(probabilities, np.float64)
    edges = np.quantile(probabilities, np.arange(1, num_bins) / num_bins)
    place = np.searchsorted(edges, probabilities, side="left")
    count = np.bincount(place, minlength=num_bins)
    predicted = np.bincount(place, probabilities, num_bins)
    observed = np.bincount(place, np.asarray(labels, np.float64), num_bins)
    return [
        {
            "predicted": float(predicted[b] / count[b]),
            "observed": float(observed[b] / count[b]),
            "count": int(count[b]),
        }
        for b in np.flatnonzero(count)
    ]


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = 10
) -> float:
    """Returns the mean gap of predicted and observed rate over bins of equal size.

    Args:
        labels: [N], 0 or 1.
        probabilities: float [N].
        num_bins: see `reliability_bins`.

    Reference:
        Naeini, Cooper and Hauskrecht (2015), with equal-mass bins.
    """
    bins = reliability_bins(labels, probabilities, num_bins)
    gaps = sum(b["count"] * abs(b["predicted"] - b["observed"]) for b in bins)
    return float(gaps / max(sum(b["count"] for b in bins), 1))


class PairFloor:
    """Click floor: the pair's own click rate if it was seen in training, else the item's.

    Rates are smoothed towards the next wider one (pair, item, all) with `shrinkage`
    pseudo-examples. The pairs of the training part are held in memory as sorted int64 keys.
    """

    def __init__(self, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def fit(self, batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> "PairFloor":
        """Counts clicks by pair and item.

        Args:
            batches: of (users int [B], items int [B], labels [B]) of the training part.

        Returns:
            Itself.
        """
        keys, labels = [np.zeros(0, np.int64)], [np.zeros(0)]
        for user, item, label in batches:
            keys.append(_pair_keys(user, item))
            labels.append(np.asarray(label, np.float64))
        every_key, every_label = np.concatenate(keys), np.concatenate(labels)
        self.keys, place = np.unique(every_key, return_inverse=True)
        self.shown = np.bincount(place, minlength=len(self.keys)).astype(np.float64)
        self.clicked = np.bincount(place, every_label, len(self.keys))
        self.items, place = np.unique(every_key & 0xFFFFFFFF, return_inverse=True)
        mean = float(every_label.mean()) if len(every_label) else 0.5
        shown = np.bincount(place, minlength=len(self.items))
        clicked = np.bincount(place, every_label, len(self.items))
        self.mean = mean
        self.item_rate = (clicked + self.shrinkage * mean) / (shown + self.shrinkage)
        return self

    def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns click probabilities float64 [B] of pairs (users int [B], items int [B])."""
        where, known = _find(self.items, np.asarray(items, np.int64))
        rate = np.where(known, self.item_rate[where] if len(self.items) else 0.0, self.mean)
        where, seen = _find(self.keys, _pair_keys(users, items))
        if not seen.any():
            return rate
        shrunk = self.clicked[where] + self.shrinkage * rate
        return np.where(seen, shrunk / (self.shown[where] + self.shrinkage), rate)

    def seen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Tells which pairs stand in the training part, bool [B]."""
        return _find(self.keys, _pair_keys(users, items))[1]


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns who is positive, bool [N], and the share of the other class on the right side."""
    positive = np.asarray(labels) > 0.5
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN")
    if positive.all() or not positive.any():
        raise ValueError("AUC needs examples of both classes")
    placement = np.empty(len(scores))
    placement[positive] = _share_below(scores[positive], scores[~positive])
    placement[~positive] = 1.0 - _share_below(scores[~positive], scores[positive])
    return positive, placement


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` below each value, equal ones counted half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return (below + upto) / (2.0 * len(ordered))


def _pair_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return (np.asarray(users, np.int64) << 32) | np.asarray(items, np.int64)


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return where, keys[where] == wanted
