"""Rare items get their share: which of the draws to keep so that they are not forgotten.

Not here: the drawing of more (`run`).
"""

import numpy as np


def find_rare_items(item_counts: np.ndarray, allowed: np.ndarray, share: float) -> np.ndarray:
    """Returns bool [V]: the `share` of the allowed items that have the fewest events.

    Args:
        item_counts: int64 [V], training events of every item id.
        allowed: bool [V], ids that a draw may hold.
        share: in [0, 1]; ties are broken by the lower id.
    """
    ids = np.nonzero(allowed)[0]
    order = ids[np.argsort(item_counts[ids], kind="stable")]
    rare = np.zeros(len(item_counts), bool)
    rare[order[: int(np.ceil(share * len(ids)))]] = True
    return rare


def select_for_quota(
    lengths: np.ndarray, rare_counts: np.ndarray, wanted: int, quota: float
) -> tuple[np.ndarray, bool]:
    """Returns the candidates to keep, and whether their rare events reach the quota.

    The first `wanted` candidates are kept; where they hold too few rare items, those with the least
    give way to later ones with the most, and to no more of them than the quota needs.

    Args:
        lengths: int64 [B], events of each candidate.
        rare_counts: int64 [B], events with a rare item.
        wanted: candidates to keep, fewer where there are fewer.
        quota: least share of rare events.

    Returns:
        int64 indices in rising order, and whether the quota is met.

    Example:
        >>> select_for_quota(np.array([4, 4, 4]), np.array([0, 1, 4]), 2, 0.5)
        (array([1, 2]), True)
    """
    # kept on an integer grid, since a sum of floats may end a hair below 0 for an exact hit
    excess = np.round((rare_counts - quota * lengths) * 1e6).astype(np.int64)
    first, later = np.arange(min(wanted, len(lengths))), np.arange(wanted, len(lengths))
    total = int(excess[first].sum())
    out = first[np.argsort(excess[first], kind="stable")][: len(later)]
    into = later[np.argsort(-excess[later], kind="stable")][: len(out)]
    gains = excess[into] - excess[out[: len(into)]]
    gains = gains[gains > 0]
    reached = total + np.concatenate([[0], np.cumsum(gains)])
    met = bool(reached[-1] >= 0)
    swaps = int(np.argmax(reached >= 0)) if met else len(gains)
    kept = np.concatenate([np.setdiff1d(first, out[:swaps]), into[:swaps]])
    return np.sort(kept), met
