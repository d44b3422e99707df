"""evaluate, for a labelled table: every head and the floor on the same rows, by outcome."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from recjax import distributed
from recjax.context import Context
from recjax.errors import UserError
from recjax.evaluation import arms
from recjax.evaluation.calibration import PairFloor
from recjax.evaluation.calibrators import fit_calibrator
from recjax.evaluation.results import StatisticsConfig, click_task
from recjax.judging import Batch
from recjax.row_experiment import RowExperiment
from recjax.row_heads import SINGLE
from recjax.workdir import read_json

Score = Callable[[list[Batch]], tuple[np.ndarray, np.ndarray]]


def judge(context: Context) -> dict[str, Any]:
    """Returns the tasks of results.json; all processes lend their devices to the heads."""
    plan = RowExperiment(context)
    parts = [plan.judged_batches(part) for part in ("valid", plan.judged_part)]
    if len(plan.outcomes) > 1:
        scored = _score_outcomes(plan, parts)
        return {
            f"{arms.HEADS_TASK}_{outcome}": _sum_up(plan, scored[k], k)
            for k, outcome in enumerate(plan.outcomes)
            if distributed.is_main()
        }
    found = {head: _score_head(plan, head, parts) for head in plan.arms}
    together = _ensembles(context.config, found)
    return {plan.task_name: _sum_up(plan, together)} if distributed.is_main() else {}


def _score_head(plan: RowExperiment, head: str, parts: list[list[Batch]]) -> np.ndarray:
    """Returns probabilities float64 [S, N] of a head on the judged rows."""
    score = partial(plan.scorer(head), plan.best_params(plan.task_name, head))
    return calibrate(plan.context.config, score, *parts)


def _score_outcomes(plan: RowExperiment, parts: list[list[Batch]]) -> list[dict[str, np.ndarray]]:
    """Returns for each outcome the probabilities float64 [S, N] by arm, of arms that learn it."""
    found: list[dict[str, np.ndarray]] = [{} for _ in plan.outcomes]
    for arm in plan.arms:
        score = partial(plan.scorer(arm), plan.best_params(plan.task_name, arm))
        scored = {id(batches): score(batches) for batches in parts}
        for k in plan.task(arm).learned:
            name = SINGLE if arm.startswith(SINGLE) else arm
            of_outcome = partial(_take_outcome, scored, k)
            found[k][name] = calibrate(plan.context.config, of_outcome, *parts)
    return [_ensembles(plan.context.config, of_arms) for of_arms in found]


def _take_outcome(
    scored: dict[int, tuple[np.ndarray, np.ndarray]], outcome: int, batches: list[Batch]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits [S, N] and labels [N] of an outcome of batches that are scored already."""
    logits, labels = scored[id(batches)]
    return logits[..., outcome], labels[:, outcome]


def _ensembles(config: ConfigDict, scored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds the mean of each arm's seeds where the config asks for it, arm by arm."""
    found = {}
    for arm, probabilities in scored.items():
        found[arm] = probabilities
        if config.evaluate.ensembles:
            found[f"{arm}_ensemble"] = probabilities.mean(axis=0, keepdims=True)
    return found


def calibrate(
    config: ConfigDict, score: Score, valid: list[Batch], judged: list[Batch]
) -> np.ndarray:
    """Returns probabilities float64 [S, N] of the judged rows, calibrated as the config says.

    Args:
        config: complete.
        score: batches -> (logits float [S, N], labels [N]).
        valid: batches of validation; scored only if something is fitted on them.
        judged: batches of what is judged.

    Raises:
        UserError: for an unknown method.
    """
    method, logits = config.evaluate.calibration, score(judged)[0].astype(np.float64)
    known, labels = score(valid) if method != "none" else (logits, np.zeros(0))
    try:
        fitted = [fit_calibrator(method, labels, member.astype(np.float64)) for member in known]
    except ValueError as error:
        raise UserError(f"config.evaluate.{error}") from error
    return np.stack([to_share(row) for to_share, row in zip(fitted, logits, strict=True)])


def describe(context: Context) -> dict[str, Any]:
    """Returns what results.json says of the data."""
    profile = read_json(context.workdir / "prepared" / "profile.json")
    return {
        "source": context.config.data.table.dataset or "table",
        "rows": {part: facts["rows"] for part, facts in profile["parts"].items()},
        "split": profile["split"],
        "fingerprint": context.workdir.stage_digest("prepare"),
    }


def statistics_of(config: ConfigDict) -> StatisticsConfig:
    """Returns how results are summed up, from `config.evaluate`."""
    settings = config.evaluate
    return StatisticsConfig(
        cutoffs=tuple(settings.cutoffs),
        bootstrap_samples=settings.bootstrap_samples,
        min_slice_targets=settings.min_slice_targets,
        seed=config.seed,
    )


def _sum_up(plan: RowExperiment, scored: dict[str, np.ndarray], outcome: int = 0) -> dict[str, Any]:
    config = plan.context.config
    train, judged = plan.source("train"), plan.source(plan.judged_part)
    known, labels = (_outcome(source.label, outcome) for source in (train, judged))
    floor = PairFloor().fit([(train.user, train.item, known)])
    slices, probabilities = {}, dict(scored)
    if config.data.table.user and config.data.table.item:
        probabilities = {"floor": floor.predict(judged.user, judged.item)[None], **scored}
        seen = floor.seen(judged.user, judged.item)
        slices = {"pair_unseen": ~seen, "pair_seen": seen}
    profile = read_json(plan.context.workdir / "prepared" / "profile.json")
    protocol = {
        "outcome": profile["outcomes"][outcome],
        "split": profile["split"],
        "part": plan.judged_part,
        "candidates": "the rows of the table",
        "ties": "half",
        "calibration": config.evaluate.calibration,
    }
    return click_task(
        labels,
        probabilities,
        np.asarray(judged.user),
        slices,
        protocol,
        statistics_of(config),
        comparisons=_comparisons(probabilities),
    )


def _outcome(labels: np.ndarray, number: int) -> np.ndarray:
    return np.asarray(labels if labels.ndim == 1 else labels[:, number])


def _comparisons(scored: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything against the floor; heads of several outcomes against each outcome alone too."""
    pairs = arms.comparisons(scored)
    together = [arm for arm in scored if not arm.startswith((SINGLE, *arms.FLOORS))]
    alone = [(arm, SINGLE) for arm in together if not arm.endswith("_ensemble")]
    return [*alone, *pairs] if SINGLE in scored else pairs
