"""Draws in proportion to whole counts, by sums that round nothing.

Called by the generators that draw items by their counts on the host.
"""

import numpy as np

from recjax.expansion.records import RecordSource, count_items, iterate


def sum_before(counts: np.ndarray) -> np.ndarray:
    """Returns int64 [N + 1], the sum of all counts int [N] before each place."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def find_place(sums_before: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns int64 [...], the place in whose stretch of counts each number falls.

    Example:
        >>> find_place(sum_before(np.array([2, 0, 3])), np.arange(5))
        array([0, 0, 2, 2, 2])
    """
    return np.searchsorted(sums_before, numbers, side="right") - 1


def draw_counted(sums_before: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns int64 [...], places in proportion to their counts.

    Args:
        sums_before: int64 [N + 1], of `sum_before`; the last one is above 0.
        uniforms: float64 [...] in [0, 1).
    """
    number = np.floor(uniforms * sums_before[-1]).astype(np.int64)
    return find_place(sums_before, np.minimum(number, sums_before[-1] - 1))


def count_first_items(source: RecordSource) -> np.ndarray:
    """Returns int64 [largest such id + 1], how many users begin with every item."""
    return count_items({"items": record["items"][:1]} for record in iterate(source))
