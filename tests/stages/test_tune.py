"""What the stage refuses before the first trial, and the rungs that a config gives.

A whole run is in test_end_to_end.py, how a trial trains in test_trials.py.
"""

import pytest
from example_records import make_item_table, make_records
from rich.console import Console

from configs import default, smoke
from recjax.context import Context
from recjax.data.record_sources import ListSource
from recjax.errors import UserError
from recjax.experiment import Experiment
from recjax.logs import Progress
from recjax.stages import inputs_of
from recjax.stages.tune import make_halving, run
from recjax.workdir import Workdir


@pytest.fixture
def make_context(tmp_path, monkeypatch):
    sources = {
        (kind, split): ListSource(make_records(kind, 24))
        for kind in ("sequences", "next_item", "click")
        for split in ("train", "valid")
    }
    monkeypatch.setattr(Experiment, "examples", lambda self, kind, split: sources[kind, split])
    monkeypatch.setattr(Experiment, "items", make_item_table())
    workdir = Workdir.open(tmp_path)

    def make(**changes):
        config = smoke.get_config()
        config.tune.update(changes)
        return Context(config, workdir, Progress(workdir, Console(quiet=True)))

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_trials": 0}, "config.tune.num_trials = 0"),
        ({"task": "clicks"}, "config.tune.task = 'clicks'.*click"),
        ({"num_seeds": 3}, "config.tune.num_seeds = 3 is more than config.num_seeds = 2"),
        ({"arms": ("real", "expandet")}, "config.tune.arms.*expandet.*real, expanded"),
        ({"arms": ("real", "real")}, "config.tune.arms.*name each once"),
        ({"space": ()}, "config.tune.space names"),
        ({"space": (("model.drop", "float", 0.0, 0.5),)}, "config.tune.space.*'model.drop'"),
        (
            {"space": (("model.dropout_rate", "float", 0.0, 1.5),)},
            "config.tune.space: with .*'model.dropout_rate': 1.5.*dropout_rate",
        ),
        (
            {"space": (("pretrain.optimizer", "choice", ("adamw", "adamm")),)},
            "config.tune.space: with .*'pretrain.optimizer': 'adamm'.*unknown",
        ),
        (
            {"space": (("model.hidden_dim", "int", 16, 17),)},
            "'model.hidden_dim': 17.*not divisible by 2 heads",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(make_context, changes, words):
    context = make_context(**changes)
    with pytest.raises(UserError, match=words):
        run(context)
    assert not (context.workdir / "tuning").exists()


def test_settings_of_a_pretraining_that_is_off_are_refused(make_context):
    context = make_context(space=(("pretrain.learning_rate", "log", 1e-4, 1e-2),))
    context.config.pretrain.num_steps = 0
    with pytest.raises(UserError, match="pretrain.learning_rate; pretrain.num_steps is 0"):
        run(context)


def test_several_processes_are_refused(make_context, monkeypatch):
    monkeypatch.setattr("recjax.distributed.count", lambda: 2)
    with pytest.raises(UserError, match="one process; here are 2"):
        run(make_context())


def test_rungs_follow_the_config():
    config = smoke.get_config()  # 12 steps of each training, an evaluation every 6
    assert make_halving(config).rungs == (6, 12)
    config.tune.num_rungs = 1
    assert make_halving(config).rungs == (12,)
    config.tune.num_rungs = 0
    assert make_halving(config).rungs == ()
    config = default.get_config()  # 1000 steps of pretraining, evaluated every 200
    assert make_halving(config).rungs == (400, 800)
    config.tune.task = "click"  # 500 more steps instead of 1000
    assert make_halving(config).rungs == (200, 600)
    config.tune.reduction_factor = 2
    assert make_halving(config).rungs == (400, 800)


def test_real_users_alone_need_no_draws():
    config = smoke.get_config()
    assert inputs_of("tune", config) == ("prepare", "expand")
    config.tune.arms = ("real",)
    assert inputs_of("tune", config) == ("prepare",)
    assert "expand" in inputs_of("pretrain", config)
