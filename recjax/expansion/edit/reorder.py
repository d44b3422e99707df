"""Strategy `reorder`: the events of a stretch change places, the clock and all else stay.

Reference:
    Xie et al. (2022), "Contrastive learning for sequential recommendation" (CL4SRec), item reorder.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import Editor, UserEdits, count_share, edit_recent
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData


class Reorder(Editor):
    """Draws users with a shuffled stretch; items move with their actions, times stay."""

    name = "reorder"

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users with at least two different items."""
        share = get_settings(data, self.name).reorder_share
        change = partial(_reorder, share=share)
        return edit_recent(data, _can_reorder, change, num_uniforms=1 + data.max_len)


def _can_reorder(record: Record) -> bool:
    return bool(np.any(record["items"] != record["items"][0]))


def _reorder(record: Record, uniforms: np.ndarray, *, share: float) -> Record:
    items, length = record["items"], len(record["items"])
    size = count_share(share, length, 2, length)
    starts = _find_stretches(items, size)
    start = starts[int(uniforms[0] * len(starts))]
    order = _shuffle(items[start : start + size], uniforms[1 : 1 + size])
    for name in ("items", "actions"):
        stretch = record[name][start : start + size]
        record[name][start : start + size] = stretch[order]
    return record


def _find_stretches(items: np.ndarray, size: int) -> np.ndarray:
    """Returns int64 [N], where stretches begin that hold two different items."""
    changes = np.concatenate([[0], np.cumsum(items[1:] != items[:-1])])
    return np.flatnonzero(changes[size - 1 :] > changes[: len(items) - size + 1])


def _shuffle(items: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns an order int64 [L] in which the items read differently; two of them must differ."""
    order = np.argsort(uniforms, kind="stable")
    same = np.array_equal(items[order], items)
    return np.roll(order, 1) if same else order
