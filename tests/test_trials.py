"""Trials with the real train loop on a toy task, judged by how near they come to the truth."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from rich.console import Console
from toy_training import ToyBatches, make_training

from configs import smoke
from recjax import interrupts
from recjax.context import Context
from recjax.errors import Interrupted
from recjax.experiment import Experiment
from recjax.logs import Progress
from recjax.trials import TrialRunner, best_so_far, drop_checkpoints, trial_experiment
from recjax.tuning.halving import Halving
from recjax.tuning.study import COMPLETE, DIVERGED, PRUNED
from recjax.workdir import Workdir

STEPS = 20  # of pretraining and of fine-tuning, each evaluated at 10 and 20
TRUTH = np.array([1.0, -2.0, 0.5])
NO_RUNGS = Halving((), 2)


class Batches(ToyBatches):
    """Stops the process at batch `stop`, spoils batch `broken`."""

    def __init__(self, stop=None, broken=None):
        super().__init__()
        self.stop, self.broken = stop, broken

    def __next__(self):
        if self.pointer == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        batch = super().__next__()
        if self.pointer == self.broken:
            batch["y"] = batch["y"] * np.nan
        return batch


@dataclasses.dataclass(frozen=True)
class ToyExperiment(Experiment):
    """Trains the toy task; `model.dropout_rate` lowers its validation value."""

    batches: dict[str, Batches] = dataclasses.field(default_factory=dict)

    def toy(self, stage, arm):
        loss = self.context.config.model.dropout_rate
        return make_training(
            self._folder(stage, arm),
            num_steps=STEPS,
            batches=self.batches.get(stage),
            evaluate=lambda p: -loss - np.abs(np.asarray(p["kernel"]) - TRUTH).sum(axis=-1),
        )

    def pretraining(self, arm):
        return self.toy("pretrain", arm)

    def finetuning(self, name, arm):
        return self.toy(f"finetune/{name}", arm)


@pytest.fixture
def make_runner(tmp_path):
    def make(name, halving=NO_RUNGS, **batches):
        workdir = Workdir.open(tmp_path / name)
        context = Context(smoke.get_config(), workdir, Progress(workdir, Console(quiet=True)))
        batches = {stage.replace("_", "/", 1): found for stage, found in batches.items()}
        experiment = ToyExperiment(context, batches=batches)
        return TrialRunner(experiment, "real", "next_item", halving)

    return make


def run(runner, rate=0.0, number=0, rivals=()):
    return runner(number, {"model.dropout_rate": rate}, rivals)


def facts(trial):
    return dataclasses.replace(trial, seconds=0.0)


def test_trial_pretrains_and_fine_tunes_on_one_axis_of_steps(make_runner):
    trial = run(make_runner("whole"))
    assert (trial.arm, trial.number, trial.state, trial.steps) == ("real", 0, COMPLETE, 2 * STEPS)
    assert sorted(trial.curve) == [10, 20, 30, 40] and trial.metric == "closeness"
    assert len(trial.per_seed) == 2 and trial.mean == pytest.approx(trial.curve[40])
    assert trial.seconds > 0


def test_trial_that_loses_at_a_rung_stops_there(make_runner):
    early, late = Halving((10,), 2), Halving((10, 30), 2)
    runner = make_runner("early", early)
    best = run(runner)
    lost = run(runner, 0.5, 1, [best])
    assert (lost.state, lost.steps, sorted(lost.curve)) == (PRUNED, 10, [10])
    folder = runner.experiment.context.workdir / "tuning/trials/real/1"
    assert (folder / "pretrain").exists() and not (folder / "finetune").exists()
    rival = dataclasses.replace(best, curve={30: 1.0})
    later = run(make_runner("late", late), 0.5, 1, [rival])
    assert (later.state, later.steps, sorted(later.curve)) == (PRUNED, 30, [10, 20, 30])


def test_pretraining_is_left_out_where_it_has_no_steps(make_runner):
    runner = make_runner("none")
    runner.experiment.context.config.pretrain.num_steps = 0
    assert sorted(run(runner).curve) == [10, 20]


@pytest.mark.parametrize(("stage", "stop"), [("pretrain", 3), ("pretrain", 13), ("finetune", 9)])
def test_stopped_trial_goes_on_and_ends_the_same(make_runner, stage, stop):
    halving = Halving((10, 20), 2)
    rivals = [dataclasses.replace(run(make_runner("rival")), curve={10: -9.0, 20: -9.0})]
    whole = run(make_runner("whole", halving), number=1, rivals=rivals)
    name = "finetune_next_item" if stage == "finetune" else stage
    interrupts.install()
    with pytest.raises(Interrupted):
        run(make_runner("cut", halving, **{name: Batches(stop=stop)}), number=1, rivals=rivals)
    interrupts.install()
    resumed = run(make_runner("cut", halving), number=1, rivals=rivals)
    assert facts(resumed) == facts(whole)


def test_trial_that_was_stopped_after_its_end_trains_nothing_again(make_runner):
    halving, rival = Halving((10,), 2), run(make_runner("rival"))
    first = run(make_runner("run", halving), 0.5, 1, [rival])
    again = Batches()
    assert run(make_runner("run", halving, pretrain=again), 0.5, 1, [rival]) == first
    assert again.pointer == 10  # restored, not stepped


def test_diverged_trial_counts_as_worse_than_any(make_runner):
    trial = run(make_runner("broken", finetune_next_item=Batches(broken=4)))
    assert (trial.state, trial.curve, trial.per_seed) == (DIVERGED, {}, ())
    assert trial.steps == STEPS  # of the pretraining, which ended


def test_ended_trials_keep_curves_but_no_checkpoints(make_runner):
    runner = make_runner("runner")
    first = run(runner)
    trials = runner.experiment.context.workdir / "tuning/trials/real"
    assert len(list((trials / "0").rglob("checkpoints"))) == 2
    run(runner, number=1, rivals=[first])
    assert not list((trials / "0").rglob("checkpoints"))
    assert len(list((trials / "0").rglob("metrics.jsonl"))) == 2
    drop_checkpoints(trials)
    assert not list(trials.rglob("checkpoints"))


def test_trial_has_members_and_folder_of_its_own(make_runner):
    experiment = make_runner("x").experiment
    experiment.context.config.tune.num_seeds = 1
    trial = trial_experiment(experiment, {"model.num_layers": 3}, "tuning/trials/real/7")
    assert trial.context.seeds == (0,) and experiment.context.seeds == (0, 1)
    assert trial.context.config.model.num_layers == 3
    assert experiment.context.config.model.num_layers == 1
    assert trial.opened is experiment.opened
    assert trial.pretraining("real").folder == (
        experiment.context.workdir / "tuning/trials/real/7/pretrain/real"
    )


def test_curve_is_the_mean_of_the_members_best(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert best_so_far(path) == {}
    path.write_text(
        '{"step": 5, "seed": 3, "train/loss": 9.0}\n'
        '{"step": 5, "seed": 3, "eval/auc": 0.5}\n{"step": 5, "seed": 4, "eval/auc": 0.25}\n'
        '{"step": 9, "seed": 3, "eval/auc": 0.25}\n{"step": 9, "seed": 4, "eval/auc": 0.75}\n'
    )
    assert best_so_far(path) == {5: 0.375, 9: 0.625}
