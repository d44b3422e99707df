"""evaluate, for a labelled table: every head and the floor on the same rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from recjax import distributed
from recjax.context import Context
from recjax.errors import UserError
from recjax.evaluation.calibration import PairFloor
from recjax.evaluation.calibrators import fit_calibrator
from recjax.evaluation.results import StatisticsConfig, click_task
from recjax.judging import Batch
from recjax.row_experiment import RowExperiment
from recjax.row_heads import TASK
from recjax.workdir import read_json

Score = Callable[[list[Batch]], tuple[np.ndarray, np.ndarray]]


def judge(context: Context) -> dict[str, Any]:
    """Returns the tasks of results.json; all processes lend their devices to the heads."""
    plan = RowExperiment(context)
    valid, judged = (plan.judged_batches(part) for part in ("valid", plan.judged_part))
    scored = {}
    for head in plan.arms:
        score = partial(plan.scorer(head), plan.best_params(TASK, head))
        scored[head] = calibrate(context.config, score, valid, judged)
        if context.config.evaluate.ensembles:
            scored[f"{head}_ensemble"] = scored[head].mean(axis=0, keepdims=True)
    return {TASK: _sum_up(plan, scored)} if distributed.is_main() else {}


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


def _sum_up(plan: RowExperiment, scored: dict[str, np.ndarray]) -> dict[str, Any]:
    config = plan.context.config
    train, judged = plan.source("train"), plan.source(plan.judged_part)
    floor = PairFloor().fit([(train.user, train.item, train.label)])
    slices, probabilities = {}, dict(scored)
    if config.data.table.user and config.data.table.item:
        probabilities = {"floor": floor.predict(judged.user, judged.item)[None], **scored}
        seen = floor.seen(judged.user, judged.item)
        slices = {"pair_unseen": ~seen, "pair_seen": seen}
    protocol = {
        "split": read_json(plan.context.workdir / "prepared" / "profile.json")["split"],
        "part": plan.judged_part,
        "candidates": "the rows of the table",
        "ties": "half",
        "calibration": config.evaluate.calibration,
    }
    return click_task(
        np.asarray(judged.label),
        probabilities,
        np.asarray(judged.user),
        slices,
        protocol,
        statistics_of(config),
    )
