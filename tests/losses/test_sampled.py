import numpy as np
import pytest
from scipy.special import expit, logsumexp

from recjax.losses import gbce_beta, generalised_bce, sampled_cross_entropy


def _logits(seed=0):
    rng = np.random.default_rng(seed)
    target, negative = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 4))
    hits = rng.random((2, 3, 4)) < 0.3
    hits[0, 0] = True  # nothing is left to tell apart
    weights, log_expected = rng.uniform(0.5, 2, (2, 3)), rng.normal(size=(2, 4))
    return [np.float32(x) for x in (target, negative, log_expected, weights)] + [hits]


def test_sampled_cross_entropy_equals_a_loop():
    target, negative, log_expected, weights, hits = _logits()
    found = sampled_cross_entropy(target, negative, log_expected, hits, weights)
    expected = 0.0
    for b, s in np.ndindex(2, 3):
        kept = [negative[b, s, k] - log_expected[b, k] for k in range(4) if not hits[b, s, k]]
        expected += weights[b, s] * (logsumexp([target[b, s], *kept]) - target[b, s])
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found[1], weights.sum(), rtol=1e-6)


def test_generalised_bce_equals_the_papers_formula():
    target, negative, _, weights, hits = _logits(1)
    found = generalised_bce(target, negative, hits, weights, beta=0.3)
    negatives = np.where(hits, 0, np.log(1 - expit(negative))).sum(axis=-1)
    losses = -(np.log(expit(target) ** 0.3) + negatives) / 5
    np.testing.assert_allclose(found[0], (losses * weights).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("calibration", "beta"),
    [(0.0, 1.0), (1.0, 0.25), (0.75, 0.25 * (0.75 * (1 - 4) + 4))],
)
def test_beta_follows_the_sampling_rate(calibration, beta):
    assert gbce_beta(25, 101, calibration) == pytest.approx(beta)
    assert gbce_beta(300, 101, calibration) == pytest.approx(1)  # more draws than items


def test_beta_makes_the_best_score_the_probability():
    """With t = 1 the loss of a frequent item is least where sigmoid(score) is its probability.

    The paper's theorem: a target with probability p is drawn as a negative at rate alpha (1 - p).
    """
    p, alpha, scores = 0.2, 0.25, np.linspace(-6, 6, 120_001)
    for calibration, best in ((1.0, p), (0.0, p / (p + alpha * (1 - p)))):
        beta = gbce_beta(25, 101, calibration)
        losses = -p * beta * np.log(expit(scores)) - alpha * (1 - p) * np.log(1 - expit(scores))
        assert expit(scores[losses.argmin()]) == pytest.approx(best, abs=1e-3)
