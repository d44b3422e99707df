"""Times for drawn users: a generator knows gap bins, this knows how long gaps of a bin really are.

Not here: the bins (`recjax.data.transforms`). The last bin has no upper end, so midpoints will not
do: gaps are drawn from the quantiles of real gaps of the same bin.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recjax.data.transforms import gaps_of_times
from recjax.expansion.records import Record

_QUANTILES = 129


@dataclass(frozen=True)
class Clock:
    """How long gaps are, and when users begin.

    Attributes:
        gap_quantiles: float64 [G, Q], seconds; row 0 is unused.
        start_quantiles: float64 [Q], first times of real users (s).
        last_time: int64 [], latest real event (s).
    """

    gap_quantiles: np.ndarray
    start_quantiles: np.ndarray
    last_time: np.ndarray

    def draw_gaps(self, bins: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns int64 [...], seconds within each bin; bin 0 (no gap) counts as bin 1.

        Args:
            bins: int [...], 0..G - 1.
            uniforms: float64 [...] in [0, 1).
        """
        return _interpolate(self.gap_quantiles[np.maximum(bins, 1)], uniforms)

    def draw_times(self, bins: np.ndarray, lengths: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns int64 [B, T], times of whole users; cells beyond a length mean nothing.

        A user begins when real users do, earlier where he would outlive the training part, but not
        before its first user: those few end later.

        Args:
            bins: int [B, T], gap bins; the first of a row is not read.
            lengths: int [B].
            uniforms: float64 [B, T] in [0, 1).
        """
        gaps = self.draw_gaps(bins[:, 1:], uniforms[:, 1:])
        offsets = np.concatenate([np.zeros((len(bins), 1), np.int64), np.cumsum(gaps, 1)], axis=1)
        spans = offsets[np.arange(len(bins)), np.maximum(lengths - 1, 0)]
        first = int(self.start_quantiles[0])
        starts = _interpolate(
            np.broadcast_to(self.start_quantiles, (len(bins), _QUANTILES)), uniforms[:, 0]
        )
        starts = np.maximum(np.minimum(starts, int(self.last_time) - spans), first)
        return starts[:, None] + offsets


def fit_clock(records: Iterable[Record], num_gap_bins: int) -> Clock:
    """Returns the clock of some real users; holds all their gaps, so give it a sample.

    Args:
        records: training records, at least one with an event.
        num_gap_bins: G.
    """
    bins, seconds, starts, last = [], [], [], []
    for record in records:
        times = np.asarray(record["times"], np.int64)
        if len(times):
            bins.append(gaps_of_times(times, num_gap_bins)[1:])
            seconds.append(np.maximum(np.diff(times), 0))
            starts.append(times[0])
            last.append(times[-1])
    all_bins, all_seconds = np.concatenate(bins), np.concatenate(seconds)
    shares = np.linspace(0, 1, _QUANTILES)
    quantiles = np.zeros((num_gap_bins, _QUANTILES))
    for row in range(1, num_gap_bins):
        low, high = 2.0 ** (row - 1) - 1, 2.0**row - 2
        inside = all_seconds[all_bins == row]
        quantiles[row] = np.quantile(inside, shares) if len(inside) else low + shares * (high - low)
    return Clock(quantiles, np.quantile(starts, shares), np.asarray(max(last), np.int64))


def _interpolate(quantiles: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns int64 [...] values of quantile tables [..., Q] at shares [...]."""
    place = uniforms * (_QUANTILES - 1)
    left = np.minimum(place.astype(np.int64), _QUANTILES - 2)[..., None]
    low = np.take_along_axis(quantiles, left, -1)[..., 0]
    high = np.take_along_axis(quantiles, left + 1, -1)[..., 0]
    return np.floor(low + (place - left[..., 0]) * (high - low)).astype(np.int64)
