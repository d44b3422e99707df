"""List statistics with hand values."""

import numpy as np
import pytest

from recjax.evaluation import beyond_accuracy

COUNTS = np.array([0] * 5 + [6, 2, 0, 0])
CATEGORIES = np.array([0] * 5 + [1, 1, 2, 0])


def test_list_statistics_hand_values() -> None:
    stats = beyond_accuracy.ListStatistics(COUNTS, CATEGORIES)
    stats.update(np.array([[5, 6, 7]]))
    stats.update(np.array([[5, 8, 0]]))  # one place is empty, item 8 has no category
    found = stats.result()
    assert found["coverage_at_3"] == 1.0
    # pairs with known categories: (5,6) same, (5,7) and (6,7) different, (5,8) unknown
    assert found["diversity_at_3"] == pytest.approx(2 / 3)
    # shown counts 6 2 0 6 0 against a training event's mean (36 + 4) / 8 = 5
    assert found["popularity_bias_at_3"] == pytest.approx((6 + 2 + 0 + 6 + 0) / 5 / 5)
    surprise = -np.log2(np.array([7, 3, 1, 7, 1]) / (8 + 9))
    assert found["novelty_at_3"] == pytest.approx(surprise.mean())
    assert found["gini_at_3"] == pytest.approx(beyond_accuracy.gini(np.array([2, 1, 1, 1])))


def test_diversity_is_left_out_without_categories() -> None:
    stats = beyond_accuracy.ListStatistics(COUNTS, np.zeros(9, np.int32))
    stats.update(np.array([[5, 6]]))
    assert "diversity_at_2" not in stats.result()


def test_gini_equals_mean_difference_definition() -> None:
    counts = np.random.default_rng(0).integers(0, 20, 30)
    direct = np.abs(counts[:, None] - counts[None]).mean() / (2 * counts.mean())
    assert beyond_accuracy.gini(counts) == pytest.approx(direct)
    assert beyond_accuracy.gini(np.zeros(4)) == 0.0
