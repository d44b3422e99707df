"""Numbers that say how far a synthetic log is from the real one.

Not here: the counting (`statistics`) and the grade (`report_card`). Every function takes counts, so
that any two logs can be compared, two halves of the real one included.
"""

import numpy as np

from recjax.expansion.statistics import LogStatistics


def to_shares(counts: np.ndarray) -> np.ndarray:
    """Returns float64 counts divided by their sum; all zero where there is nothing."""
    counts = np.asarray(counts, np.float64)
    return counts / max(counts.sum(), 1.0)


def compute_total_variation(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the largest difference in probability of any event, in [0, 1].

    Example:
        >>> compute_total_variation(np.array([1, 1]), np.array([2, 0]))
        0.5
    """
    return float(np.abs(to_shares(left) - to_shares(right)).sum() / 2)


def compute_auc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Returns the chance that a value of one side exceeds one of the other; ties count half.

    Args:
        higher: float [M], expected to be higher; M >= 1.
        lower: float [N]; N >= 1.

    Example:
        >>> compute_auc(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
        0.625
    """
    ordered = np.sort(lower)
    below, up_to = (np.searchsorted(ordered, higher, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(lower)))


def compute_chance_auc(num_higher: int, num_lower: int) -> float:
    """Returns the AUC that two samples of one distribution stay below in 39 of 40 cases.

    Reference:
        Mann and Whitney (1947), "On a test of whether one of two random variables is
        stochastically larger than the other" (the variance of U).
    """
    variance = (num_higher + num_lower + 1) / (12 * num_higher * num_lower)
    return 0.5 + 1.96 * float(np.sqrt(variance))


def compute_jensen_shannon(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the Jensen-Shannon divergence of two count arrays, in bits, in [0, 1].

    Reference:
        Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    p, q = to_shares(left).ravel(), to_shares(right).ravel()
    middle = (p + q) / 2
    return float(sum(_relative_entropy(side, middle) for side in (p, q)) / 2)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def compute_wasserstein(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the mean shift, in bins, that turns one histogram into the other."""
    return float(np.abs(np.cumsum(to_shares(left)) - np.cumsum(to_shares(right))).sum())


def compute_mean_length(statistics: LogStatistics) -> float:
    """Returns events per user."""
    return statistics.events / max(statistics.users, 1)


def compute_effective_items(counts: np.ndarray) -> float:
    """Returns exp(entropy): how many equally popular items would be as varied."""
    shares = to_shares(counts)
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def compute_coverage(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Returns distinct synthetic items over those that as many draws by real popularity would hit.

    Args:
        real: int64 [V] events of every item.
        synthetic: int64 [V].
    """
    events = synthetic.sum()
    expected = np.sum(1 - np.exp(events * np.log1p(-np.minimum(to_shares(real), 1 - 1e-12))))
    return float((synthetic > 0).sum() / max(expected, 1.0))


def find_popularity_bands(counts: np.ndarray, num_bands: int = 10) -> np.ndarray:
    """Returns int64 [V], bands of items that hold about equally many events, the head first.

    Example:
        >>> find_popularity_bands(np.array([1, 5, 2, 0, 2]), 2).tolist()
        [1, 0, 1, 1, 1]
    """
    order = np.argsort(-counts, kind="stable")
    shares = to_shares(counts)[order]
    before = np.cumsum(shares) - shares
    bands = np.empty(len(counts), np.int64)
    bands[order] = np.minimum(((before + 1e-9) * num_bands).astype(np.int64), num_bands - 1)
    return bands


def compute_popularity_shift(left: np.ndarray, right: np.ndarray, bands: np.ndarray) -> float:
    """Returns the total variation between two logs' events over bands of popularity, in [0, 1].

    Args:
        left: int64 [V], events of each item.
        right: int64 [V].
        bands: int64 [V], see `find_popularity_bands`.
    """
    return compute_total_variation(np.bincount(bands, left), np.bincount(bands, right))


def compute_repeat_rate(statistics: LogStatistics) -> float:
    """Returns the share of events whose item the user had before."""
    return statistics.repeats / max(statistics.events, 1)


def compute_category_order(statistics: LogStatistics) -> float:
    """Returns how much more often consecutive events share a category than in random order."""
    pairs = statistics.category_pairs
    return float((np.trace(pairs) - statistics.same_expected) / max(pairs.sum(), 1))


def compute_pair_order(statistics: LogStatistics, known: LogStatistics) -> float:
    """Returns how much more often consecutive items are known pairs than items far apart are.

    Args:
        statistics: the log that is judged.
        known: real users other than the judged ones; their consecutive item pairs are "known".
    """
    seen = known.near_pairs > 0
    return float(
        to_shares(statistics.near_pairs)[seen].sum() - to_shares(statistics.far_pairs)[seen].sum()
    )
