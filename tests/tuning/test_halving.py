import numpy as np
import pytest

from recjax.tuning.halving import Halving, evaluation_steps


@pytest.mark.parametrize(
    ("num_steps", "interval", "expected"),
    [(12, 6, [6, 12]), (12, 5, [5, 10, 12]), (3, 5, [3]), (0, 5, [])],
)
def test_evaluations_are_those_of_the_train_loop(num_steps, interval, expected):
    loop = [s for s in range(1, num_steps + 1) if s % interval == 0 or s == num_steps]
    assert evaluation_steps(num_steps, interval) == loop == expected


@pytest.mark.parametrize(
    ("num_rungs", "factor", "expected"),
    [(0, 3, ()), (1, 2, (50,)), (2, 3, (20, 40)), (3, 4, (10, 30)), (9, 2, (10, 20, 30, 50))],
)
def test_rungs_are_evaluations_at_powers_of_the_factor(num_rungs, factor, expected):
    assert Halving.over(range(10, 101, 10), num_rungs, factor).rungs == expected


def test_trial_of_one_evaluation_has_no_rung():
    assert Halving.over([5], 3, 2).rungs == ()


def test_only_the_best_of_those_at_the_rung_go_on():
    halving = Halving((10,), 3)
    rivals = [{10: value} for value in (0.5, 0.1, 0.4, 0.3, 0.2)]
    lost = {value: halving.loses({10: value}, rivals) for value in (0.6, 0.45, 0.39, 0.05)}
    assert lost == {0.6: False, 0.45: False, 0.39: True, 0.05: True}  # 2 of 6 go on
    assert not halving.loses({10: 0.0}, [])  # the first has no rival
    assert not halving.loses({10: 0.5}, rivals[:1])  # ties go on


def test_values_at_other_steps_do_not_count():
    halving = Halving((10, 20), 2)
    assert not halving.loses({5: 0.1}, [{10: 0.9, 20: 0.9}])  # no rung yet
    assert not halving.loses({10: 0.5}, [{5: 0.9}, {10: 0.4}, {20: 0.9}])
    assert halving.loses({10: 0.9, 20: 0.1}, [{10: 0.5, 20: 0.5}])  # lost at the second


def test_one_in_so_many_goes_on_in_the_long_run():
    values = np.random.default_rng(0).uniform(size=2000)
    halving = Halving((1,), 4)
    rivals, kept = [], 0
    for value in values:
        kept += not halving.loses({1: value}, rivals)
        rivals.append({1: value})
    assert kept == pytest.approx(2000 / 4, rel=0.1)
