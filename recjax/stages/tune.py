"""tune: the same number of trials for every arm; each arm's best settings become a config file.

A trial pretrains and fine-tunes the members of one setting under tuning/trials/ARM/NUMBER. The
validation part judges it, at the rungs of successive halving and at its end; the test part is
never opened. A finished trial is never run again, a half-run one goes on from its checkpoint.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from recjax import distributed
from recjax.context import Context
from recjax.errors import UserError
from recjax.stages.plans import open_plan
from recjax.training_plan import TrainingPlan
from recjax.trials import TrialRunner, drop_checkpoints, trial_experiment
from recjax.tuning.chosen import render_config, with_settings
from recjax.tuning.halving import Halving, evaluation_steps
from recjax.tuning.space import TuneConfig
from recjax.tuning.study import Settings, Trial, best_trial, check_equal_counts, search
from recjax.tuning.table import print_trials, trial_rows
from recjax.workdir import write_json


def run(context: Context) -> dict[str, Any]:
    """Writes tuning/study.db, trials.json and chosen_ARM.py for every arm."""
    if distributed.count() > 1:
        raise UserError(f"the tune stage runs in one process; here are {distributed.count()}")
    experiment, folder = open_plan(context), context.workdir / "tuning"
    try:
        tune = TuneConfig(**context.config.tune)
        check_space(experiment, tune)
    except ValueError as error:
        raise UserError(f"config.tune.{error}") from error
    arms = _arms(experiment, tune)
    folder.mkdir(exist_ok=True)
    by_arm = {arm: _tune_arm(experiment, arm, tune) for arm in arms}
    trials = [trial for found in by_arm.values() for trial in found]
    check_equal_counts(trials, arms, tune.num_trials)
    write_json(folder / "trials.json", _describe(tune, trials))
    for arm, found in by_arm.items():
        _hand_over(context, folder / f"chosen_{arm}.py", found)
    context.progress.say(
        f"{tune.num_trials} trials for every arm ({', '.join(arms)}), chosen on validation; the "
        "test part was not opened"
    )
    return {"trials_per_arm": tune.num_trials}


def check_space(experiment: TrainingPlan, tune: TuneConfig) -> None:
    """Raises UserError before the first trial, naming the setting that could not be trained."""
    config = experiment.context.config
    if tune.task not in experiment.tasks:
        raise UserError(f"config.tune.task = {tune.task!r}; this log has {experiment.tasks}")
    if tune.num_seeds > config.num_seeds:
        raise UserError(
            f"config.tune.num_seeds = {tune.num_seeds} is more than config.num_seeds = "
            f"{config.num_seeds}: there are no draws for the others"
        )
    for dimension in tune.dimensions:
        if dimension.key.startswith("pretrain.") and not config.pretrain.num_steps:
            raise UserError(f"config.tune.space has {dimension.key}; pretrain.num_steps is 0")
        for value in dimension.values:
            _check_setting(experiment, tune.task, {dimension.key: value})


def _check_setting(experiment: TrainingPlan, task: str, setting: Settings) -> None:
    try:
        trial_experiment(experiment, setting, "").check_recipes(task)
    except (UserError, ValueError) as error:
        raise UserError(f"config.tune.space: with {setting}: {error}") from error


def _arms(experiment: TrainingPlan, tune: TuneConfig) -> tuple[str, ...]:
    unknown = set(tune.arms) - set(experiment.arms)
    if unknown or len(set(tune.arms)) < len(tune.arms):
        known = ", ".join(experiment.arms)
        raise UserError(f"config.tune.arms = {tune.arms}: name each once, of {known}")
    return tune.arms or experiment.arms


def _tune_arm(experiment: TrainingPlan, arm: str, tune: TuneConfig) -> list[Trial]:
    """Runs what is missing of an arm's trials; its data are opened once."""
    context = experiment.context
    held = experiment.opened_for(arm, tune.num_seeds)
    trials = search(
        context.workdir / "tuning" / "study.db",
        arm,
        tune.dimensions,
        num_trials=tune.num_trials,
        seed=context.config.seed,
        run=TrialRunner(held, arm, tune.task, make_halving(context.config)),
    )
    drop_checkpoints(context.workdir / "tuning" / "trials" / arm)
    return trials


def make_halving(config: ConfigDict) -> Halving:
    """Returns the rungs of a trial, its steps counted through pretraining and fine-tuning."""
    tune, evaluations, before = config.tune, list[int](), 0
    for section in (config.pretrain, config.finetune[tune.task]):
        steps = evaluation_steps(section.num_steps, section.eval_interval_steps)
        evaluations += [before + step for step in steps]
        before += section.num_steps
    return Halving.over(evaluations, tune.num_rungs, tune.reduction_factor)


def _describe(tune: TuneConfig, trials: list[Trial]) -> dict[str, Any]:
    return {
        "task": tune.task,
        "selection": "best mean over members of the validation metric; test never opened",
        "trials_per_arm": tune.num_trials,
        "trials": trial_rows(trials),
    }


def _hand_over(context: Context, target: Path, trials: list[Trial]) -> None:
    """Prints an arm's trials and writes the chosen settings as a config that is ready to run."""
    chosen, console = best_trial(trials), context.progress.console
    print_trials(trials, console)
    config = with_settings(context.config, chosen.settings)
    beside = target.with_suffix(".partial")
    beside.write_text(render_config(config, chosen, len(trials)))
    beside.replace(target)
    console.print(f"chosen for {chosen.arm}: {target}", markup=False, soft_wrap=True)
