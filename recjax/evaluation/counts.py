"""Counts of the training log, and the sparse item-item arrays made from them.

Lives here: streaming counts of items and pairs, the counting kernel, user co-occurrence, top-k per
row. Not here: scoring and ranking (`floors`). Called by `floors`. scipy.sparse, no dense [V, V].

Ids below `NUM_SPECIALS` (unknown items) keep their place in time and are never counted. In this
first form the pair counts of the whole log are held in memory as one sparse array.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.sparse as sp

from recjax.data.vocabulary import NUM_SPECIALS

CHUNK_USERS = 4096  # users whose events are concatenated at a time
MAX_KNN_ITEMS = 500  # last distinct items of a user that are paired up; bounds the memory


@dataclasses.dataclass(frozen=True)
class CountingSettings:
    """One counting floor: window W, backward b, item exponent e, decay, last items looked at."""

    window: int = 5
    backward: float = 0.5
    item_exponent: float = 0.3
    decay: float = 0.5
    history: int = 10


@dataclasses.dataclass(frozen=True)
class LogCounts:
    """Counts of a training log.

    Attributes:
        popularity: int64 [V], events of each item; 0 for special tokens.
        transitions: window W -> CSR float64 [V, V], the sum over k = 1..W of C_k / k, where
            C_k[i, j] counts j standing k events after i.
    """

    popularity: np.ndarray
    transitions: dict[int, sp.csr_array]


def count_log(
    sequences: Iterable[np.ndarray], vocab_size: int, windows: Sequence[int] = ()
) -> LogCounts:
    """Counts items, and pairs of items k events apart, in one pass over the training users.

    Args:
        sequences: training item ids of each user, oldest first.
        vocab_size: V, number of ids, specials included.
        windows: the windows W wanted; () counts popularity only.

    Returns:
        LogCounts.
    """
    popularity = np.zeros(vocab_size, np.int64)
    steps = range(1, max(windows, default=0) + 1)
    apart = {k: sp.csr_array((vocab_size, vocab_size)) for k in steps}
    for users, items in concatenated(sequences):
        popularity += np.bincount(items, minlength=vocab_size)
        for k in steps:
            same = users[:-k] == users[k:]
            apart[k] = apart[k] + _pair_counts(items[:-k][same], items[k:][same], vocab_size)
    popularity[:NUM_SPECIALS] = 0
    total, transitions = sp.csr_array((vocab_size, vocab_size)), {}
    for k in steps:
        total = total + apart[k] / k
        if k in windows:
            transitions[k] = total
    return LogCounts(popularity, transitions)


def popularity_share(popularity: np.ndarray) -> np.ndarray:
    """Returns float64 [V], each item's share of all training events (sums to 1, or all 0)."""
    return popularity / max(popularity.sum(), 1)


def counting_kernel(counts: LogCounts, settings: CountingSettings) -> sp.csr_array:
    """Builds the item-item array of the counting floor.

    M plus `backward` times its transpose; row i divided by popularity(i)^0.5, column j by
    popularity(j)^item_exponent (popularity 0 counts as 1).

    Args:
        counts: must hold the window of `settings`.
        settings: the point of the grid.

    Returns:
        CSR float64 [V, V].
    """
    pairs = counts.transitions[settings.window]
    if settings.backward:
        pairs = pairs + settings.backward * pairs.T
    kernel = sp.csr_array(pairs)
    events = np.maximum(counts.popularity, 1).astype(np.float64)
    row_of = np.repeat(np.arange(len(events)), np.diff(kernel.indptr))
    damping = events[row_of] ** 0.5 * events[kernel.indices] ** settings.item_exponent
    return sp.csr_array((kernel.data / damping, kernel.indices, kernel.indptr), kernel.shape)


def co_occurrence(
    sequences: Iterable[np.ndarray], vocab_size: int
) -> tuple[sp.csr_array, np.ndarray]:
    """Counts the users that two items share, over each user's last distinct items.

    Args:
        sequences: training item ids of each user, oldest first.
        vocab_size: V, number of ids, specials included.

    Returns:
        CSR float64 [V, V] without diagonal, and float64 [V], the users of each item.
    """
    shared, users_of = sp.csr_array((vocab_size, vocab_size)), np.zeros(vocab_size)
    recent = (_last_distinct(np.asarray(sequence)) for sequence in sequences)
    for users, items in concatenated(recent):
        users = users - users[0]
        shape = (int(users[-1]) + 1, vocab_size)
        touched = sp.csr_array((np.ones(len(users)), (users, items)), shape=shape)
        users_of += np.bincount(items, minlength=vocab_size)
        shared = shared + touched.T @ touched
    shared = sp.csr_array(shared)
    shared.setdiag(0.0)
    shared.eliminate_zeros()
    return shared, users_of


def keep_largest(matrix: sp.csr_array, num_kept: int) -> sp.csr_array:
    """Keeps the largest entries of each row, equal ones by lower column.

    Args:
        matrix: CSR [R, C].
        num_kept: entries kept per row.

    Returns:
        CSR [R, C].
    """
    row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row_of))
    place = np.arange(len(order)) - matrix.indptr[row_of[order]]
    kept = order[place < num_kept]
    entries = (matrix.data[kept], (row_of[kept], matrix.indices[kept]))
    return sp.csr_array(entries, shape=matrix.shape)


def concatenated(
    sequences: Iterable[np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (user index, item id) int64 pairs of arrays, a chunk of users at a time."""
    iterator, first = iter(sequences), 0
    while chunk := list(itertools.islice(iterator, CHUNK_USERS)):
        users = np.repeat(np.arange(first, first + len(chunk)), [len(s) for s in chunk])
        first += len(chunk)
        if len(users):
            yield users, np.concatenate([np.asarray(s, np.int64) for s in chunk])


def _pair_counts(first: np.ndarray, second: np.ndarray, vocab_size: int) -> sp.csr_array:
    known = (first >= NUM_SPECIALS) & (second >= NUM_SPECIALS)
    ones = np.ones(int(known.sum()))
    pairs = sp.coo_array((ones, (first[known], second[known])), shape=(vocab_size, vocab_size))
    return sp.csr_array(pairs)


def _last_distinct(sequence: np.ndarray) -> np.ndarray:
    items, last = np.unique(sequence[::-1], return_index=True)
    known = items >= NUM_SPECIALS
    return items[known][np.argsort(last[known])[:MAX_KNN_ITEMS]]
