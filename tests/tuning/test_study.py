"""The search with trials that are formulas: what a kill, a seed and a diverged trial change."""

import builtins
import math
import sqlite3

import pytest

from recjax.errors import Interrupted, UserError
from recjax.tuning.halving import Halving
from recjax.tuning.space import Dimension
from recjax.tuning.study import (
    COMPLETE,
    DIVERGED,
    PRUNED,
    Trial,
    best_trial,
    check_equal_counts,
    search,
)

SPACE = (
    Dimension("pretrain.learning_rate", "log", (1e-4, 1e-1)),
    Dimension("model.dropout_rate", "float", (0.0, 0.5)),
    Dimension("model.num_layers", "int", (1, 4)),
    Dimension("model.inputs", "choice", (("item",), ("item", "gap"))),
)
HALVING = Halving((10, 20), 2)


class Trials:
    """Runs formulas as trials and notes which; is killed before trial number `stop`."""

    def __init__(self, arm="real", stop=None):
        self.arm, self.stop, self.ran = arm, stop, []

    def __call__(self, number, settings, rivals):
        if number == self.stop:
            raise Interrupted
        self.ran.append(number)
        rate = settings["pretrain.learning_rate"]
        if rate > 0.05:
            return Trial(self.arm, number, settings, DIVERGED, {}, "", (), 0, 0.0)
        value = -abs(math.log10(rate) + 2) - settings["model.dropout_rate"]
        curve, state = {}, COMPLETE
        for step in (10, 20, 30):
            curve[step] = value - 1 / step
            if HALVING.loses(curve, [rival.curve for rival in rivals]):
                state = PRUNED
                break
        per_seed = (curve[step], curve[step])
        return Trial(self.arm, number, settings, state, curve, "ndcg_at_10", per_seed, step, 0.5)


def run(path, trials, num_trials=16, seed=0):
    return search(path, trials.arm, SPACE, num_trials=num_trials, seed=seed, run=trials)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("study") / "study.db", Trials())


def test_trials_lie_within_the_space_and_vary(whole):
    assert [trial.number for trial in whole] == [*range(16)]
    for trial in whole:
        values = trial.settings
        assert 1e-4 <= values["pretrain.learning_rate"] <= 1e-1
        assert 0 <= values["model.dropout_rate"] <= 0.5
        assert values["model.num_layers"] in (1, 2, 3, 4)
        assert values["model.inputs"] in (("item",), ("item", "gap"))
    for name in (dimension.key for dimension in SPACE):
        assert len({trial.settings[name] for trial in whole}) > 1
    assert {trial.state for trial in whole} == {COMPLETE, PRUNED, DIVERGED}


@pytest.mark.parametrize("stop", [0, 3, 12])
def test_killed_search_ends_with_the_same_trials_and_repeats_none(tmp_path, whole, stop):
    path, killed, rest = tmp_path / "study.db", Trials(stop=stop), Trials()
    with pytest.raises(Interrupted):
        run(path, killed)
    assert run(path, rest) == whole
    assert killed.ran + rest.ran == [*range(16)]


def test_finished_search_runs_nothing(tmp_path, whole):
    path, again = tmp_path / "study.db", Trials()
    run(path, Trials())
    assert run(path, again) == whole and again.ran == []


def test_seed_decides_the_trials(tmp_path, whole):
    other = run(tmp_path / "study.db", Trials(), num_trials=3, seed=1)
    assert [t.settings for t in other] != [t.settings for t in whole[:3]]


def test_arms_are_studies_of_one_file_and_start_with_the_same_settings(tmp_path, whole):
    path = tmp_path / "study.db"
    found = {arm: run(path, Trials(arm), num_trials=3) for arm in ("real", "expanded")}
    assert found["real"] == whole[:3]
    for mine, other in zip(found["real"], found["expanded"], strict=True):
        assert mine.settings == other.settings
    file = sqlite3.connect(path)
    assert file.execute("select count(*) from trials").fetchone() == (6,)
    file.close()


def test_what_is_suggested_follows_what_was_found(tmp_path):
    """After ten random trials the search looks where the values are good."""
    trials = run(tmp_path / "study.db", Trials(), num_trials=40)

    def distance(trials):
        rates = [abs(math.log10(t.settings["pretrain.learning_rate"]) + 2) for t in trials]
        return sum(rates) / len(rates)

    assert distance(trials[20:]) < 0.7 * distance(trials[:10])


def make_trial(arm="real", number=0, state=COMPLETE, per_seed=(0.5,)):
    return Trial(arm, number, {}, state, {}, "ndcg_at_10", per_seed, 10, 1.0)


def test_best_is_complete_and_the_first_of_equals():
    trials = [
        make_trial(number=0, state=PRUNED, per_seed=(0.9, 0.9)),
        make_trial(number=1, per_seed=(0.25, 0.75)),
        make_trial(number=2, per_seed=(0.5, 0.5)),
        make_trial(number=3, state=DIVERGED, per_seed=()),
    ]
    assert best_trial(trials).number == 1
    assert trials[1].mean == 0.5 and trials[3].mean is None


def test_best_of_diverged_trials_is_refused():
    with pytest.raises(UserError, match="'real' came to its end.*learning rates"):
        best_trial([make_trial(state=DIVERGED, per_seed=())])


def test_arms_of_unequal_counts_are_not_compared():
    trials = [make_trial("real", 0), make_trial("real", 1), make_trial("expanded", 0)]
    check_equal_counts(trials[1:], ("real", "expanded"), 1)
    with pytest.raises(RuntimeError, match="2 trials each.*'real': 2, 'expanded': 1"):
        check_equal_counts(trials, ("real", "expanded"), 2)
    with pytest.raises(RuntimeError, match="'expanded': 0"):
        check_equal_counts(trials[:1], ("real", "expanded"), 1)


def test_missing_package_names_the_install_command(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_optuna(name, *arguments, **keywords):
        if name == "optuna":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_optuna)
    with pytest.raises(UserError, match=r"pip install 'recjax\[tune\]'"):
        run(tmp_path / "study.db", Trials())
