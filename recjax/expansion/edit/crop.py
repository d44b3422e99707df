"""Strategy `crop`: a stretch of a real user, a fixed share of its events.

Unlike `sliding_window`, the control arm, all stretches are equally deep and the gate judges them.

Reference:
    Xie et al. (2022), "Contrastive learning for sequential recommendation" (CL4SRec), item crop.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import Editor, UserEdits, count_share, edit_recent
from recjax.expansion.records import Record, slice_record
from recjax.expansion.strategy import ExpansionData

_LEAST = 2  # events that stay


class Crop(Editor):
    """Draws stretches; at least two events stay, at least one goes."""

    name = "crop"

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users that can lose an event."""
        share = get_settings(data, self.name).crop_share
        return edit_recent(data, _can_crop, partial(_crop, share=share), num_uniforms=1)


def _can_crop(record: Record) -> bool:
    return len(record["items"]) > _LEAST


def _crop(record: Record, uniforms: np.ndarray, *, share: float) -> Record:
    length = len(record["items"])
    size = count_share(share, length, _LEAST, length - 1)
    start = int(uniforms[0] * (length - size + 1))
    return slice_record(record, start, start + size)
