"""Bands of scores: a draw should score as real users do, be it likelihood or a classifier's odds.

Not here: the scores themselves; the caller hands in a function that computes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.gate.settings import TOO_LIKELY, TOO_UNLIKELY
from recjax.expansion.records import Record

ScoreFn = Callable[[Sequence[Record]], np.ndarray]  # score(records) -> float [B]


@dataclass(frozen=True)
class ScoreBand:
    """Limits on a score, as held-out real users show them.

    Attributes:
        score: what is limited; by default the log-likelihood per event (natural log).
        low, high: the limits.
        too_low, too_high: reasons for removing what lies outside.
    """

    score: ScoreFn
    low: float
    high: float
    too_low: str = TOO_UNLIKELY
    too_high: str = TOO_LIKELY

    def judge(self, records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Returns bool [B] below the band and bool [B] above it; a score of NaN is below."""
        scores = np.asarray(self.score(records), np.float64)
        above = scores > self.high
        return ~(scores >= self.low) & ~above, above


def fit_band(scores: np.ndarray, quantiles: tuple[float, float], score: ScoreFn) -> ScoreBand:
    """Returns the band of likelihood between two quantiles of held-out real users' scores.

    Args:
        scores: float [N], log-likelihood per event of held-out users; empty: no limits.
        quantiles: low and high, in [0, 1].
        score: how draws will be scored.
    """
    if not len(scores):
        return ScoreBand(score, -np.inf, np.inf)
    low, high = np.quantile(np.asarray(scores, np.float64), quantiles)
    return ScoreBand(score, float(low), float(high))
