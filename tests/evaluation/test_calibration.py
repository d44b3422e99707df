"""Click metrics against scikit-learn and hand values."""

import numpy as np
import pytest
from sklearn import calibration as peer_calibration
from sklearn import metrics as peer

from recjax.evaluation import calibration


def _clicks(num: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random(num) < 0.3).astype(np.int32)
    scores = np.clip(np.round(0.3 + 0.2 * labels + rng.normal(0, 0.2, num), 1), 0.01, 0.99)
    return labels, scores  # one decimal: many ties


def test_auc_with_ties_agrees_with_sklearn() -> None:
    labels, scores = _clicks()
    assert calibration.auc(labels, scores) == pytest.approx(peer.roc_auc_score(labels, scores))
    contributions = calibration.auc_contributions(labels, scores)
    assert contributions.mean() == pytest.approx(peer.roc_auc_score(labels, scores))


def test_auc_contributions_predict_the_auc_of_other_users() -> None:
    labels, scores = _clicks(4000)
    rows = np.random.default_rng(1).integers(0, 4000, 4000)
    linear = calibration.auc_contributions(labels, scores)[rows].mean()
    assert linear == pytest.approx(calibration.auc(labels[rows], scores[rows]), abs=1e-3)


def test_auc_refuses_one_class_and_nan() -> None:
    with pytest.raises(ValueError, match="both classes"):
        calibration.auc(np.ones(3), np.arange(3.0))
    with pytest.raises(ValueError, match="NaN"):
        calibration.auc(np.array([0, 1]), np.array([0.5, np.nan]))


def test_auc_interval_is_that_of_delong_and_of_resampling() -> None:
    labels, scores = _clicks(300)
    area, low, high = calibration.auc_interval(labels, scores)
    assert area == pytest.approx(peer.roc_auc_score(labels, scores))
    ahead, behind = scores[labels == 1], scores[labels == 0]
    kernel = (ahead[:, None] > behind) + 0.5 * (ahead[:, None] == behind)
    parts = kernel.mean(1).var(ddof=1) / len(ahead) + kernel.mean(0).var(ddof=1) / len(behind)
    assert high - area == pytest.approx(1.959964 * np.sqrt(parts))
    assert area - low == pytest.approx(high - area)
    rng, drawn = np.random.default_rng(1), []
    for _ in range(500):
        rows = rng.integers(0, 300, 300)
        drawn.append(calibration.auc(labels[rows], scores[rows]))
    assert np.std(drawn) == pytest.approx(np.sqrt(parts), rel=0.15)
    assert calibration.auc_interval(labels, scores, level=0.5)[1] > low


def test_log_loss_agrees_with_sklearn_and_stays_finite() -> None:
    labels, scores = _clicks()
    ours = calibration.log_losses(labels, scores).mean()
    assert ours == pytest.approx(peer.log_loss(labels, scores))
    assert np.isfinite(calibration.log_losses(np.array([0, 1]), np.array([1.0, 0.0]))).all()


def test_reliability_bins_agree_with_sklearn() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random(1000)
    labels = rng.random(1000) < probabilities
    bins = calibration.reliability_bins(labels, probabilities, 10)
    observed, predicted = peer_calibration.calibration_curve(
        labels, probabilities, n_bins=10, strategy="quantile"
    )
    np.testing.assert_allclose([b["observed"] for b in bins], observed)
    np.testing.assert_allclose([b["predicted"] for b in bins], predicted)
    assert sum(b["count"] for b in bins) == 1000


def test_calibration_error_hand_value() -> None:
    labels, probabilities = np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.8, 0.8])
    # two bins of two: |.2 - .5| and |.8 - 1|
    error = calibration.expected_calibration_error(labels, probabilities, num_bins=2)
    assert error == pytest.approx(0.25)
    assert len(calibration.reliability_bins(labels, np.full(4, 0.5))) == 1


def test_pair_floor_hand_values() -> None:
    users, items, labels = np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6]), np.array([1, 1, 0, 0])
    floor = calibration.PairFloor(shrinkage=1.0).fit(
        [(users[:2], items[:2], labels[:2]), (users[2:], items[2:], labels[2:])]
    )
    item_rate = (2 + 0.5) / (3 + 1)  # item 5: two clicks of three, towards the mean of .5
    predicted = floor.predict(np.array([1, 3, 3]), np.array([5, 5, 7]))
    np.testing.assert_allclose(predicted, [(2 + item_rate) / (2 + 1), item_rate, 0.5])
    assert floor.seen(np.array([1, 3, 2]), np.array([5, 5, 6])).tolist() == [True, False, True]


def test_pair_floor_without_training_data_says_even() -> None:
    floor = calibration.PairFloor().fit([])
    assert floor.predict(np.array([1]), np.array([5])).tolist() == [0.5]
