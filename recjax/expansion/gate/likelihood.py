"""The likelihood band: a draw should be about as likely as real users are, neither freak nor bore.

Not here: the likelihood itself; the fitted generator hands in a function that computes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.records import Record

# score(records) -> float [B], log-likelihood per event
ScoreFn = Callable[[Sequence[Record]], np.ndarray]


@dataclass(frozen=True)
class LikelihoodBand:
    """Limits on the log-likelihood per event (natural log), as held-out real users show them."""

    score: ScoreFn
    low: float
    high: float

    def judge(self, records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Returns bool [B] below the band and bool [B] above it; a score of NaN is below."""
        scores = np.asarray(self.score(records), np.float64)
        above = scores > self.high
        return ~(scores >= self.low) & ~above, above


def fit_band(scores: np.ndarray, quantiles: tuple[float, float], score: ScoreFn) -> LikelihoodBand:
    """Returns the band between two quantiles of held-out real users' scores.

    Args:
        scores: float [N], log-likelihood per event of held-out users; empty: no limits.
        quantiles: low and high, in [0, 1].
        score: how draws will be scored.
    """
    if not len(scores):
        return LikelihoodBand(score, -np.inf, np.inf)
    low, high = np.quantile(np.asarray(scores, np.float64), quantiles)
    return LikelihoodBand(score, float(low), float(high))
