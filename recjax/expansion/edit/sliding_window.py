"""Strategy `sliding_window`: stretches of real users, the classic control of sequence models.

Reference:
    Zhou et al. (2024), "Is contrastive learning necessary? A study of data augmentation vs
    contrastive learning in sequential recommendation": windows alone match contrastive methods.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.user_edits import Editor, UserEdits
from recjax.expansion.records import Record, slice_record
from recjax.expansion.strategy import ExpansionData

_LEAST = 2  # events of a window: one to look at, one to predict


class SlidingWindow(Editor):
    """Draws a random proper stretch of a real user, anywhere in it and of any length."""

    name = "sliding_window"
    judged_by: tuple[str, ...] = ()  # a control arm: others apply it as it is
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users that are longer than the shortest window."""
        lengths = (len(data.source[user]["items"]) for user in range(len(data.source)))
        users = [user for user, length in enumerate(lengths) if length > _LEAST]
        return UserEdits(
            data.source.__getitem__,
            np.array(users, np.int32),
            partial(_cut, max_len=data.max_len),
            num_uniforms=2,
        )


def _cut(record: Record, uniforms: np.ndarray, *, max_len: int) -> Record:
    """Returns a stretch that is shorter than the record."""
    size_share, start_share = uniforms
    length = len(record["items"])
    longest = min(length - 1, max_len)
    size = _LEAST + int(size_share * (longest - _LEAST + 1))
    start = int(start_share * (length - size + 1))
    return slice_record(record, start, start + size)
