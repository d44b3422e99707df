"""Strategy `sliding_window`: stretches of real users, the classic control of sequence models.

Reference:
    Zhou et al. (2024), "Is contrastive learning necessary? A study of data augmentation vs
    contrastive learning in sequential recommendation": windows alone match contrastive methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax.expansion.records import Record, RecordSource, slice_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

_LEAST = 2  # events of a window: one to look at, one to predict


@dataclass(frozen=True)
class EditState:
    """Real users that an edit can change.

    Attributes:
        source: the real users.
        users: int32 [N], places of those long enough in the source.
        max_len: most events of a record.
    """

    source: RecordSource
    users: np.ndarray
    max_len: int


def find_long_users(data: ExpansionData, least: int) -> EditState:
    """Returns the users with at least `least` events, after one pass."""
    lengths = (len(data.source[user]["items"]) for user in range(len(data.source)))
    users = [user for user, length in enumerate(lengths) if length >= least]
    return EditState(data.source, np.array(users, np.int32), data.max_len)


class SlidingWindow:
    """Draws a random proper stretch of a real user, every long enough user in turn."""

    name = "sliding_window"
    gated = False  # a control arm: others apply it as it is
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> EditState:
        """Returns the users that are longer than the shortest window."""
        return find_long_users(data, _LEAST + 1)

    def draw(self, key: jax.Array, state: EditState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n windows, none where nobody is long enough; see `Strategy.draw`."""
        if not len(state.users):
            return []
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, 2)
        return [
            _cut(state.source[int(user)], size_share, start_share, state.max_len)
            for user, (size_share, start_share) in zip(chosen, uniforms, strict=True)
        ]


def _cut(record: Record, size_share: float, start_share: float, max_len: int) -> Record:
    """Returns a stretch that is shorter than the record."""
    length = len(record["items"])
    longest = min(length - 1, max_len)
    size = _LEAST + int(size_share * (longest - _LEAST + 1))
    start = int(start_share * (length - size + 1))
    return slice_record(record, start, start + size)
