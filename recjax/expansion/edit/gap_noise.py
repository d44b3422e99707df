"""Strategy `gap_noise`: a real user whose time gaps are stretched by random factors.

The items stay, so the gate knows these draws by items and gaps: one whose gaps all keep their bins
is a copy. The report card counts the draws as copies of items, which they are.

Reference:
    Dang et al. (2023), "Uniform sequence better: time interval aware data augmentation for
    sequential recommendation" (intervals are part of what a sequence says).
"""

from functools import partial

import numpy as np
from scipy.special import ndtri

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import Editor, UserEdits, edit_recent
from recjax.expansion.records import Record, compute_sessions
from recjax.expansion.strategy import ExpansionData


class GapNoise(Editor):
    """Draws users with another clock; the last event keeps its time, so none lies later."""

    name = "gap_noise"
    judged_by: tuple[str, ...] = ("items", "gaps")  # same items by design

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users in whose history time passes."""
        change = partial(
            _stretch,
            scale=get_settings(data, self.name).gap_scale,
            session_gap_seconds=data.session_gap_seconds,
        )
        return edit_recent(data, _can_stretch, change, data.max_len)


def _can_stretch(record: Record) -> bool:
    return bool(record["times"][-1] > record["times"][0])


def _stretch(
    record: Record, uniforms: np.ndarray, *, scale: float, session_gap_seconds: int
) -> Record:
    """Multiplies each gap by a log-normal factor; events of one second stay together."""
    times = record["times"]
    gaps = np.diff(times)
    stretched = np.rint(gaps * np.exp(scale * ndtri(uniforms[: len(gaps)]))).astype(np.int64)
    before_end = np.cumsum(_make_differ(stretched, gaps)[::-1])[::-1]
    times[:-1] = times[-1] - before_end
    return {**record, "sessions": compute_sessions(times, session_gap_seconds)}


def _make_differ(stretched: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Returns the new gaps int64 [L - 1]; where rounding undid all, the longest grows by 1 s."""
    if np.array_equal(stretched, gaps):
        stretched[np.argmax(gaps)] += 1
    return stretched
