"""Coverage and false alarms of the bootstrap, and Holm against a hand example."""

import numpy as np
import pytest

from recjax.evaluation import statistics


def _arm(
    rng: np.random.Generator, seeds: int, users: int, of_seed: float, of_user: np.ndarray
) -> np.ndarray:
    return (
        of_user + rng.normal(0, of_seed, (seeds, 1)) + rng.normal(0, 1.0, (seeds, users))
    ).astype(np.float64)


@pytest.mark.parametrize("of_seed", [0.0, 0.1], ids=["same training", "seeds differ"])
def test_same_arm_twice_raises_alarm_as_often_as_it_says(of_seed: float) -> None:
    rng, alarms, runs = np.random.default_rng(0), 0, 300
    for run in range(runs):
        of_user = rng.normal(0, 2.0, 200)
        pair = (_arm(rng, 3, 200, of_seed, of_user) for _ in range(2))
        alarms += statistics.bootstrap_lift(*pair, num_samples=300, seed=run).p_value < 0.05
    assert 0.01 <= alarms / runs <= 0.08  # 0.05 +- 2.4 standard errors, low side conservative


def test_interval_covers_the_truth() -> None:
    rng, covered, runs = np.random.default_rng(1), 0, 300
    for run in range(runs):
        values = rng.exponential(1.0, (1, 150))
        low, high = statistics.bootstrap_interval(values, 300, run).ci95
        covered += low <= 1.0 <= high
    assert 0.89 <= covered / runs <= 0.98


def test_rows_of_one_user_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    of_user = np.repeat(rng.normal(size=50), 20)[None]
    users = np.repeat(np.arange(50), 20)
    alone = statistics.bootstrap_interval(of_user, 500, 0).ci95
    together = statistics.bootstrap_interval(of_user, 500, 0, users).ci95
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])  # sqrt(20) = 4.5


def test_many_users_are_grouped_without_changing_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(3).normal(size=(1, 8000))
    whole = statistics.bootstrap_interval(values, 1000, 0).ci95
    monkeypatch.setattr(statistics, "MAX_UNITS", 1000)
    grouped = statistics.bootstrap_interval(values, 1000, 0).ci95
    assert grouped[1] - grouped[0] == pytest.approx(whole[1] - whole[0], rel=0.15)


def test_lift_finds_a_true_difference_and_its_size() -> None:
    rng = np.random.default_rng(4)
    control = rng.random((3, 2000))
    lift = statistics.bootstrap_lift(control * 1.1, control, 500, 0)
    assert lift.relative == pytest.approx(0.1)
    assert lift.relative_ci95 is not None
    assert lift.relative_ci95[0] <= 0.1 <= lift.relative_ci95[1]
    assert lift.ci95[0] > 0 and lift.p_value < 0.01
    assert (lift.seeds, lift.n) == (3, 2000)


def test_lift_against_a_floor_with_one_seed_and_against_zero() -> None:
    rng = np.random.default_rng(5)
    lift = statistics.bootstrap_lift(rng.random((3, 300)), np.zeros((1, 300)), 200, 0)
    assert lift.relative is None and lift.relative_ci95 is None and lift.seeds == 3


def test_lift_refuses_arms_that_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="do not pair up"):
        statistics.bootstrap_lift(np.zeros((3, 5)), np.zeros((2, 5)), 10, 0)
    with pytest.raises(ValueError, match="do not pair up"):
        statistics.bootstrap_lift(np.zeros((1, 5)), np.zeros((1, 6)), 10, 0)
    with pytest.raises(ValueError, match="at least one user"):
        statistics.bootstrap_interval(np.zeros((1, 0)), 10, 0)


def test_same_seed_same_bytes() -> None:
    values = np.random.default_rng(6).random((3, 100))
    first = statistics.bootstrap_lift(values, values[::-1], 100, 9)
    assert first == statistics.bootstrap_lift(values, values[::-1], 100, 9)


def test_weights_are_poisson_one() -> None:
    weights = statistics._poisson_weights(np.random.default_rng(7), (200, 1000))
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    assert weights.var() == pytest.approx(1.0, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)


def test_holm_hand_example() -> None:
    # sorted .005 .01 .03 .04 times 4 3 2 1, then never falling
    adjusted = statistics.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    assert statistics.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert statistics.holm(np.zeros(0)).shape == (0,)
