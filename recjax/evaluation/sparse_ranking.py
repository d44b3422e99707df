"""Ranks and top-n lists for scorers whose rows are sparse above a common base score.

A counting model scores few items per user; all others have the same tiny popularity share. Ranking
costs what the few items cost, and no [users, items] array is ever made. Called by `floors` only;
dense scores go through `ranking`.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from recjax.data.vocabulary import NUM_SPECIALS
from recjax.evaluation.ranking import flatten_histories


def rank_sparse(
    rows: sp.csr_array,
    base: np.ndarray,
    sorted_base: np.ndarray,
    targets: np.ndarray,
    histories: Sequence[np.ndarray],
    mask_history: bool,
) -> np.ndarray:
    """Ranks targets by score rows[b, j] + base[j], same meaning as `ranking.rank_scores`.

    Args:
        rows: float64 CSR [B, V], the scores above the base; stored values are positive.
        base: float64 [V], the score every user gives; its specials are ignored.
        sorted_base: float64 [V - 5], `base` without specials, ascending (made once per floor).
        targets: int [B] item ids.
        histories: B arrays of item ids.
        mask_history: whether items of the row's history are taken out of the ranking.

    Returns:
        float64 [B]; V marks a miss (no item, or masked).
    """
    num_rows, width = rows.shape
    targets = np.asarray(targets, np.int64)
    valid = (targets >= NUM_SPECIALS) & (targets < width)
    items = np.where(valid, targets, NUM_SPECIALS)
    own = _values(rows, np.arange(num_rows), items) + base[items]
    hidden_rows, hidden = _distinct_pairs(histories, width) if mask_history else _no_pairs()
    valid[hidden_rows[hidden == items[hidden_rows]]] = False
    stored = _values(rows, hidden_rows, hidden)
    higher, equal = (
        _count_entries(rows, base, sorted_base, own, compare)
        - np.bincount(hidden_rows[compare(stored + base[hidden], own[hidden_rows])], None, num_rows)
        for compare in (np.greater, np.equal)
    )
    return np.where(valid, higher + 0.5 * (equal - 1), float(width))


def top_n_sparse(
    rows: sp.csr_array,
    base: np.ndarray,
    n: int,
    histories: Sequence[np.ndarray],
    mask_history: bool,
) -> np.ndarray:
    """Lists the n best items by rows[b, j] + base[j], best first, equal scores by lower id.

    Args:
        rows: float64 CSR [B, V], the scores above the base.
        base: float64 [V], the score every user gives.
        n: length of a list.
        histories: B arrays of item ids.
        mask_history: whether items of the row's history are left out.

    Returns:
        int32 [B, n]; 0 (padding) where fewer than n items can be recommended.
    """
    common = np.argsort(-base[NUM_SPECIALS:], kind="stable") + NUM_SPECIALS
    lists = np.zeros((rows.shape[0], n), np.int32)
    for row, history in enumerate(histories):
        hidden = np.unique(history) if mask_history else np.zeros(0, np.int64)
        span = slice(rows.indptr[row], rows.indptr[row + 1])
        own = rows.indices[span].astype(np.int64)
        items = np.concatenate([own, np.setdiff1d(common[: n + len(hidden)], own)])
        scores = base[items]
        scores[: len(own)] += rows.data[span]
        allowed = ~np.isin(items, hidden)
        items, scores = items[allowed], scores[allowed]
        best = items[np.lexsort((items, -scores))][:n]
        lists[row, : len(best)] = best
    return lists


def _count_entries(
    rows: sp.csr_array,
    base: np.ndarray,
    sorted_base: np.ndarray,
    own: np.ndarray,
    compare: np.ufunc,
) -> np.ndarray:
    """Counts per row the items, of the whole catalogue, that compare so with the row's own score.

    All items are counted by their base first; the few with an entry are then put right.
    """
    above = len(sorted_base) - np.searchsorted(sorted_base, own, side="right")
    level = len(sorted_base) - np.searchsorted(sorted_base, own, side="left") - above
    own_of = np.repeat(own, np.diff(rows.indptr))
    base_of = base[rows.indices]
    with_entry = compare(rows.data + base_of, own_of).astype(np.int8)
    by_base = compare(base_of, own_of).astype(np.int8)
    total = np.concatenate([[0], np.cumsum(with_entry - by_base, dtype=np.int64)])
    return (above if compare is np.greater else level) + np.diff(total[rows.indptr])


def _values(rows: sp.csr_array, row_of: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns the stored values at (row, item) pairs, 0 where nothing is stored."""
    return np.asarray(rows[row_of, items]).reshape(-1) if len(row_of) else np.zeros(0)


def _distinct_pairs(histories: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and items of the distinct pairs of the histories."""
    row_of, items = flatten_histories(histories)
    keys = np.unique(row_of * width + items)
    return keys // width, keys % width


def _no_pairs() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
