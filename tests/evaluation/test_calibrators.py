"""Calibration fitted on one half of made-up clicks holds on the other."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from recjax.evaluation.calibration import log_losses
from recjax.evaluation.calibrators import fit_calibrator, fit_isotonic, fit_temperature

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=8000)
LABELS = (RNG.random(8000) < expit(TRUTH)).astype(int)
SURE = 3 * TRUTH  # three times too sure
HALF = slice(0, 4000), slice(4000, None)


def test_temperature_finds_the_factor() -> None:
    assert fit_temperature(LABELS, SURE) == pytest.approx(1 / 3, rel=0.05)
    assert fit_temperature(LABELS, TRUTH) == pytest.approx(1, rel=0.05)


def test_isotonic_is_that_of_the_peer_but_for_the_ends() -> None:
    fitted = fit_isotonic(LABELS, SURE)(SURE)
    expected = IsotonicRegression().fit(SURE, LABELS).predict(SURE)
    inner = (expected > 0.01) & (expected < 0.99)
    np.testing.assert_allclose(fitted[inner], expected[inner], atol=1e-9)
    assert fitted.min() > 0 and fitted.max() < 1


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibrated_probabilities_are_better_on_other_rows(method: str) -> None:
    calibrator = fit_calibrator(method, LABELS[HALF[0]], SURE[HALF[0]])
    before = log_losses(LABELS[HALF[1]], fit_calibrator("none", LABELS, SURE)(SURE[HALF[1]]))
    after = log_losses(LABELS[HALF[1]], calibrator(SURE[HALF[1]]))
    best = log_losses(LABELS[HALF[1]], expit(TRUTH[HALF[1]]))
    assert after.mean() < before.mean() - 0.05 and after.mean() < best.mean() + 0.01


def test_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="calibration 'platt' is unknown; known: none, temp"):
        fit_calibrator("platt", LABELS, SURE)
