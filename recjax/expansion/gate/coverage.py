"""What of a catalogue must not be forgotten: rare items, categories, users that cross them.

Not here: the quotas (`quotas`) and the drawing of more (`run`).
"""

import numpy as np

_MAX_CELLS = 64  # categories with a share of their own; all smaller ones have one together


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


def share_by_category(
    category_of_item: np.ndarray, item_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cell of every item, and the share of the training events in every cell.

    The 64 largest categories have a cell each, the largest first, and all others one together.

    Args:
        category_of_item: int [V], 0 = none.
        item_counts: int64 [V], training events.

    Returns:
        int64 [V], -1 for items without category, and float64 [C]; C = 0 without categories.

    Example:
        >>> share_by_category(np.array([0, 1, 2, 2]), np.array([4, 1, 2, 1]))
        (array([-1,  1,  0,  0]), array([0.375, 0.125]))
    """
    events = np.bincount(category_of_item, weights=item_counts)
    events[0] = 0
    order = np.argsort(-events, kind="stable")[: int((events > 0).sum())]
    cells = np.full(len(events), -1)
    cells[order] = np.minimum(np.arange(len(order)), _MAX_CELLS)
    shares = np.bincount(cells[order], weights=events[order]) / max(item_counts.sum(), 1)
    return cells[category_of_item], shares


def find_crossing(items: np.ndarray, category_of_item: np.ndarray) -> np.ndarray:
    """Returns bool [B]: users with items of two categories or more.

    Args:
        items: int64 [B, T], padded with 0.
        category_of_item: int [V], 0 = none, the padding's among them.
    """
    categories = category_of_item[items]
    most = categories.max(axis=1, initial=0)
    least = np.where(categories > 0, categories, most[:, None]).min(axis=1)
    return least < most
