"""The study file: finished trials in Optuna's SQLite storage, the only file that imports Optuna.

A trial enters the file whole, when it has ended. What is suggested next follows from the seed and
the finished trials alone, so a run that was killed suggests the half-run trial again.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recjax.errors import UserError
from recjax.tuning.halving import Curve
from recjax.tuning.space import Dimension

if TYPE_CHECKING:
    import optuna

COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"
Settings = dict[str, Any]  # config key -> value


@dataclasses.dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        arm: whose.
        number: 0, 1, ... within the arm.
        settings: config key -> value.
        state: "complete", "pruned" (lost at a rung) or "diverged" (a loss was not finite).
        curve: step -> best validation value up to it, mean over members.
        metric: of the last training that ended; "" when none did.
        per_seed: its best validation value by member.
        steps: of the trainings that ended.
        seconds: likewise.
    """

    arm: str
    number: int
    settings: Settings
    state: str
    curve: Curve
    metric: str
    per_seed: tuple[float, ...]
    steps: int
    seconds: float

    @property
    def mean(self) -> float | None:
        """Mean over members, None when no training ended."""
        return statistics.fmean(self.per_seed) if self.per_seed else None


RunTrial = Callable[[int, Settings, Sequence[Trial]], Trial]


def search(
    path: Path, arm: str, space: Sequence[Dimension], *, num_trials: int, seed: int, run: RunTrial
) -> list[Trial]:
    """Runs the trials of one arm that the study file does not have yet.

    Args:
        path: the study file; made where absent.
        arm: name of the study in the file.
        space: what varies.
        num_trials: finished ones when this returns.
        seed: of the suggestions.
        run: (number, settings, trials before it) -> the finished trial.

    Returns:
        All trials of the arm, by number.

    Raises:
        UserError: when Optuna is not installed.
    """
    with _open_study(path, arm) as study:
        while len(trials := _read_trials(study, arm, space)) < num_trials:
            settings = suggest(space, study.get_trials(), seed)
            trial = run(len(trials), settings, trials)
            study.add_trial(_to_optuna(trial, space))
        return trials


def suggest(
    space: Sequence[Dimension], finished: Sequence["optuna.trial.FrozenTrial"], seed: int
) -> Settings:
    """Returns the next trial's settings, a function of seed and finished trials.

    The first ten are random, then the tree-structured Parzen estimator suggests. Its state is in
    no file: a study in memory is made of the finished trials, its sampler seeded by their number.

    Reference:
        Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization", Section 4.
    """
    optuna = _import_optuna()
    words = np.random.SeedSequence([seed, len(finished)]).generate_state(1)
    sampler = optuna.samplers.TPESampler(seed=int(words[0]))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(finished)
    params = study.ask(_distributions(space)).params
    return {dimension.key: _to_value(dimension, params[dimension.key]) for dimension in space}


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Returns the complete trial with the best mean, the first of equals.

    Raises:
        UserError: when no trial is complete.
    """
    complete = [trial for trial in trials if trial.state == COMPLETE]
    if not complete:
        raise UserError(
            f"no trial of the arm {trials[0].arm!r} came to its end: every one diverged; lower the "
            "learning rates of config.tune.space"
        )
    return max(complete, key=lambda trial: trial.mean or 0.0)


def check_equal_counts(trials: Sequence[Trial], arms: Sequence[str], num_trials: int) -> None:
    """Raises RuntimeError unless every arm has `num_trials` finished trials."""
    counts = {arm: sum(trial.arm == arm for trial in trials) for arm in arms}
    if set(counts.values()) != {num_trials}:
        raise RuntimeError(f"arms must have {num_trials} trials each to be compared: {counts}")


@contextmanager
def _open_study(path: Path, arm: str) -> Iterator["optuna.Study"]:
    optuna = _import_optuna()
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        yield optuna.create_study(
            storage=storage, study_name=arm, direction="maximize", load_if_exists=True
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("the tune stage needs Optuna: pip install 'recjax[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces every study
    return optuna


def _distributions(space: Sequence[Dimension]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    makers: dict[str, Callable[..., Any]] = {
        "float": FloatDistribution,
        "log": lambda low, high: FloatDistribution(low, high, log=True),
        "int": IntDistribution,
        "choice": lambda *values: CategoricalDistribution([repr(value) for value in values]),
    }
    return {dimension.key: makers[dimension.kind](*dimension.values) for dimension in space}


def _to_value(dimension: Dimension, param: Any) -> Any:
    """A choice is kept by its text, since Optuna keeps no tuples."""
    if dimension.kind != "choice":
        return param
    return next(value for value in dimension.values if repr(value) == param)


def _to_optuna(trial: Trial, space: Sequence[Dimension]) -> "optuna.trial.FrozenTrial":
    from optuna.trial import TrialState, create_trial

    facts = ("state", "metric", "per_seed", "steps", "seconds")
    is_choice = {dimension.key: dimension.kind == "choice" for dimension in space}
    return create_trial(
        state=TrialState.COMPLETE if trial.state == COMPLETE else TrialState.PRUNED,
        value=trial.mean,
        params={key: repr(v) if is_choice[key] else v for key, v in trial.settings.items()},
        distributions=_distributions(space),
        intermediate_values=dict(trial.curve),
        user_attrs={name: getattr(trial, name) for name in facts},
    )


def _read_trials(study: "optuna.Study", arm: str, space: Sequence[Dimension]) -> list[Trial]:
    trials = []
    for number, found in enumerate(study.get_trials()):
        settings = {dim.key: _to_value(dim, found.params[dim.key]) for dim in space}
        facts = {**found.user_attrs, "per_seed": tuple(found.user_attrs["per_seed"])}
        curve = found.intermediate_values
        trials.append(Trial(arm=arm, number=number, settings=settings, curve=curve, **facts))
    return trials
