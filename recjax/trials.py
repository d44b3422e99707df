"""One trial of the search: a setting, pretrained and fine-tuned, judged on validation as it goes.

Called by the tune stage. What a trial knows lies in its folder: a run that was stopped takes it up
from its checkpoints and curves, and decides at every rung as an undisturbed one.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from recjax.logs import read_metrics
from recjax.train import NonFiniteError, Training, read_summary, train
from recjax.training_plan import TrainingPlan
from recjax.tuning.chosen import with_settings
from recjax.tuning.halving import Curve, Halving
from recjax.tuning.study import COMPLETE, DIVERGED, PRUNED, Settings, Trial
from recjax.workdir import remove

Plan = TypeVar("Plan", bound=TrainingPlan)


@dataclass(frozen=True)
class TrialRunner:
    """Runs the trials of one arm.

    Attributes:
        experiment: holds the arm's opened data.
        arm: whose training data.
        task: the fine-tuning that a trial ends with.
        halving: which trials go on.
    """

    experiment: TrainingPlan
    arm: str
    task: str
    halving: Halving

    def __call__(self, number: int, settings: Settings, rivals: Sequence[Trial]) -> Trial:
        """Trains a setting until it loses, diverges or ends.

        Args:
            number: of the trial.
            settings: config key -> value.
            rivals: the finished trials before it.
        """
        context, folder = self.experiment.context, f"tuning/trials/{self.arm}"
        for rival in rivals:
            drop_checkpoints(context.workdir / f"{folder}/{rival.number}")
        trial = trial_experiment(self.experiment, settings, f"{folder}/{number}")
        state, curve, summaries = self._train(trial, number, [rival.curve for rival in rivals])
        ended = Trial(
            arm=self.arm,
            number=number,
            settings=settings,
            state=state,
            curve=curve,
            metric=summaries[-1]["metric"] if curve else "",
            per_seed=tuple(summaries[-1]["best_metric"]) if curve else (),
            steps=sum(summary["steps"] for summary in summaries),
            seconds=sum(summary["wall_seconds"] for summary in summaries),
        )
        value = "" if ended.mean is None else f", {ended.metric} {ended.mean:.4f} on validation"
        context.progress.say(f"{self.arm}, trial {number}: {state}{value}")
        return ended

    def _train(
        self, trial: TrainingPlan, number: int, rivals: Sequence[Curve]
    ) -> tuple[str, dict[int, float], list[dict[str, Any]]]:
        """Returns state, curve and the summaries of the trainings that ended."""
        context, before = trial.context, 0
        curve: dict[int, float] = {}
        summaries: list[dict[str, Any]] = []
        for training in trial.trainings_to(self.task, self.arm):

            def lost(training: Training = training, before: int = before) -> bool:
                rows = best_so_far(training.folder / "metrics.jsonl")
                curve.update({before + step: value for step, value in rows.items()})
                return self.halving.loses(curve, rivals)

            label = f"{self.arm}, trial {number}: {training.label}"
            try:
                train(replace(training, label=label, pruned=lost), context.engine, context.progress)
            except NonFiniteError as error:
                context.progress.say(str(error))
                return DIVERGED, {}, summaries  # without a curve it counts as worse than any
            summaries.append(read_summary(training.folder))
            if lost():
                return PRUNED, curve, summaries
            before += training.loop.num_steps
        return COMPLETE, curve, summaries


def trial_experiment(experiment: Plan, settings: Settings, within: str) -> Plan:
    """Returns the experiment under other settings, with the members and the folder of a trial."""
    config = with_settings(experiment.context.config, settings)
    config.num_seeds = config.tune.num_seeds
    return replace(experiment, context=replace(experiment.context, config=config), within=within)


def best_so_far(path: Path) -> dict[int, float]:
    """Reads metrics.jsonl: step -> best validation value up to it, mean over members."""
    best: dict[int, float] = {}
    curve = {}
    for row in read_metrics(path):
        for name in row:
            if name.startswith("eval/"):
                best[row["seed"]] = max(row[name], best.get(row["seed"], row[name]))
                curve[row["step"]] = statistics.fmean(best.values())
    return curve


def drop_checkpoints(folder: Path) -> None:
    """Removes the checkpoints below the folder of an ended trial; curves and summaries stay."""
    for path in folder.glob("**/checkpoints"):
        remove(path)
