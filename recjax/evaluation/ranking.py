"""Ranks of targets in a full catalogue, top-n lists and the metrics that follow from ranks.

Lives here: dense scores [B, V] -> ranks with half ties, and ranks -> NDCG, HR, MRR, precision,
recall per user. Not here: sparse scorers (`floors`), means and intervals (`results`, `statistics`).
Called by the evaluate and recommend stages and by the floors. numpy only; the device version in
`recjax.metrics` keeps the same meaning and a test compares the two.

Columns are item ids of the vocabulary, so columns 0..4 are special tokens and are never ranked.
"""

from collections.abc import Sequence

import numpy as np

from recjax.data.vocabulary import NUM_SPECIALS


def flatten_histories(histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lists the (row, item) pairs of all histories, special tokens left out.

    Args:
        histories: B int arrays of item ids, any length, oldest first.

    Returns:
        rows int64 [N] and items int64 [N], in the order of the histories.
    """
    lengths = np.fromiter((len(history) for history in histories), np.int64, len(histories))
    rows = np.repeat(np.arange(len(histories)), lengths)
    if not len(rows):
        return rows, rows.copy()
    items = np.concatenate([np.asarray(history, np.int64) for history in histories])
    known = items >= NUM_SPECIALS
    return rows[known], items[known]


def rankable_scores(
    scores: np.ndarray, histories: Sequence[np.ndarray] | None, mask_history: bool
) -> np.ndarray:
    """Copies scores with -inf on special tokens and, if asked, on each row's own history.

    Args:
        scores: float [B, V], one column per item id.
        histories: B arrays of item ids; None is allowed when mask_history is False.
        mask_history: whether items of the row's history may not be recommended.

    Returns:
        Array [B, V] of the dtype of `scores`.

    Raises:
        ValueError: if a score is NaN (a broken model must not look good), or histories are missing.
    """
    if np.isnan(scores).any():
        row = int(np.isnan(scores).any(axis=1).argmax())
        raise ValueError(f"scores of row {row} hold NaN; a rank among NaN means nothing")
    masked = np.array(scores)
    masked[:, :NUM_SPECIALS] = -np.inf
    if mask_history:
        if histories is None or len(histories) != len(scores):
            raise ValueError("mask_history=True needs one history per row of scores")
        masked[flatten_histories(histories)] = -np.inf
    return masked


def rank_scores(
    scores: np.ndarray,
    targets: np.ndarray,
    histories: Sequence[np.ndarray] | None,
    mask_history: bool,
) -> np.ndarray:
    """Ranks each row's target among all items, 0 = best, ties count half.

    rank = (number of items scored higher) + 0.5 * (number of other items scored equal). A target
    that is no item (UNK, outside the vocabulary) or stands in a masked history is a miss: rank V.

    Args:
        scores: float [B, V], one column per item id; specials are ignored.
        targets: int [B] item ids.
        histories: B arrays of item ids, or None when nothing is masked.
        mask_history: whether items of the row's history are taken out of the ranking.

    Returns:
        float64 [B].

    Raises:
        ValueError: if a score is NaN or histories are missing.

    Example:
        >>> scores = np.array([[0, 0, 0, 0, 0, 0.5, 0.9, 0.5]])
        >>> rank_scores(scores, np.array([7]), None, mask_history=False)
        array([1.5])
    """
    masked = rankable_scores(scores, histories, mask_history)
    num_rows, width = masked.shape
    targets = np.asarray(targets, np.int64)
    valid = (targets >= NUM_SPECIALS) & (targets < width)
    own = masked[np.arange(num_rows), np.where(valid, targets, 0)][:, None]
    ranks = (masked > own).sum(axis=1) + 0.5 * ((masked == own).sum(axis=1) - 1)
    return np.where(valid & (own[:, 0] > -np.inf), ranks, float(width))


def top_n(
    scores: np.ndarray, n: int, histories: Sequence[np.ndarray] | None, mask_history: bool
) -> np.ndarray:
    """Lists the n best items of each row, best first, equal scores by lower id.

    Args:
        scores: float [B, V], one column per item id.
        n: length of a list (static).
        histories: B arrays of item ids, or None when nothing is masked.
        mask_history: whether items of the row's history are left out.

    Returns:
        int32 [B, n]; 0 (padding) where fewer than n items can be recommended.

    Raises:
        ValueError: if a score is NaN or histories are missing.
    """
    masked = rankable_scores(scores, histories, mask_history)
    order = np.argsort(-masked, axis=1, kind="stable")[:, :n]
    found = np.take_along_axis(masked, order, axis=1) > -np.inf
    lists = np.zeros((len(masked), n), np.int32)
    lists[:, : order.shape[1]] = np.where(found, order, 0)
    return lists


def metrics_per_user(ranks: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Turns 0-based ranks of single targets into metrics of each user.

    A target is a hit at k when its rank is below k. NDCG is 1 / log2(rank + 2), MRR 1 / (rank + 1),
    both 0 without a hit. With one target, recall equals HR and precision is HR / k.

    Args:
        ranks: float [..., N] (halves come from ties); any leading axes, such as seeds.
        cutoffs: list lengths k.

    Returns:
        {"ndcg_at_10": float64 [..., N], "hr_at_10", "mrr_at_10", "precision_at_10", "recall_at_10"}
        for each k.

    Reference:
        Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".

    Example:
        >>> metrics_per_user(np.array([0.0, 2.0, 30.0]), (10,))["ndcg_at_10"]
        array([1. , 0.5, 0. ])
    """
    ranks = np.asarray(ranks, np.float64)
    metrics: dict[str, np.ndarray] = {}
    for k in cutoffs:
        hit = (ranks < k).astype(np.float64)
        metrics[f"ndcg_at_{k}"] = hit / np.log2(ranks + 2.0)
        metrics[f"hr_at_{k}"] = hit
        metrics[f"mrr_at_{k}"] = hit / (ranks + 1.0)
        metrics[f"precision_at_{k}"] = hit / k
        metrics[f"recall_at_{k}"] = hit
    return metrics
