"""Strategy `swap_noise`: some items of a real user replaced by any of the log, by popularity.

Reference:
    Vincent et al. (2010), "Stacked denoising autoencoders" (noise as regularization); for tables:
    a cell gets the value of a random other row, so that each column keeps its distribution.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import (
    Editor,
    UserEdits,
    choose_places,
    count_share,
    edit_recent,
)
from recjax.expansion.generate.counted import find_place, sum_before
from recjax.expansion.records import Record, count_items
from recjax.expansion.strategy import ExpansionData


class SwapNoise(Editor):
    """Draws users with foreign items; actions and clock stay."""

    name = "swap_noise"

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Counts the items; returns all users, or none where the log has one item only."""
        counts = count_items(data.source)
        share = get_settings(data, self.name).swap_share
        change = partial(_swap, share=share, before=sum_before(counts))
        several = bool(np.count_nonzero(counts) > 1)
        return edit_recent(data, lambda _: several, change, num_uniforms=2 * data.max_len)


def _swap(record: Record, uniforms: np.ndarray, *, share: float, before: np.ndarray) -> Record:
    items, length = record["items"], len(record["items"])
    order, choice = uniforms.reshape(2, -1)
    places = choose_places(order[:length], count_share(share, length, 1, length))
    items[places] = draw_others(before, items[places], choice[places])
    return record


def draw_others(before: np.ndarray, items: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns int64 [N], items drawn by popularity, each another one than it stands for.

    Args:
        before: int64 [V + 1], events of all items with a lower id; two items have some.
        items: int [N], items to replace.
        uniforms: float64 [N] in [0, 1).
    """
    own = before[items + 1] - before[items]
    ticket = (uniforms * (before[-1] - own)).astype(np.int64)
    ticket += np.where(ticket >= before[items], own, 0)  # step over the item's own tickets
    return find_place(before, ticket)
