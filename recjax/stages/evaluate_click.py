"""Click-through on the test impressions: probabilities of the floor, the arms and the oracle."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from recjax.data.record_sources import Source
from recjax.evaluation.calibration import PairFloor
from recjax.evaluation.results import StatisticsConfig, click_task
from recjax.experiment import Experiment
from recjax.stages.evaluate_table import calibrate
from recjax.stages.oracle import ShopOracle

_CHUNK = 1024


def score_arms(experiment: Experiment) -> dict[str, np.ndarray]:
    """Returns click probabilities float64 [S, N] of the test examples by arm; on all processes."""
    scorer = experiment.click_scorer()
    valid, judged = (
        experiment.click_batches(source)
        for source in (experiment.validation("click"), experiment.judged("click"))
    )
    probabilities = {}
    for arm in experiment.arms:
        score = partial(scorer, experiment.best_params("click", arm))
        probabilities[arm] = calibrate(experiment.context.config, score, valid, judged)
    return probabilities


def judge(
    experiment: Experiment, statistics: StatisticsConfig, scored: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the click part of results.json; `scored` is what `score_arms` returned."""
    context = experiment.context
    test = experiment.judged("click")
    users, items, labels = map(np.concatenate, zip(*_columns(test), strict=True))
    floor = PairFloor().fit(_columns(experiment.examples("click", "train")))
    probabilities = {"floor": floor.predict(users, items)[None], **scored}
    oracle = ShopOracle.of(context)
    if oracle is not None and oracle.has_impressions:
        probabilities["oracle"] = np.concatenate(
            [oracle.clicks(records) for records in _chunks(test)]
        )[None]
    protocol = {
        "split": context.config.prepare.split.method,
        "part": context.config.evaluate.part,
        "candidates": "shown items" if _has_impressions(experiment) else "events and sampled items",
        "mask_history": False,
        "ties": "half",
        "calibration": context.config.evaluate.calibration,
    }
    seen = floor.seen(users, items)
    slices = {"pair_unseen": ~seen, "pair_seen": seen}
    return click_task(labels, probabilities, users, slices, protocol, statistics)


def _has_impressions(experiment: Experiment) -> bool:
    return (experiment.context.workdir / "prepared" / "impressions.parquet").exists()


def _chunks(source: Source) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(source), _CHUNK):
        yield source.__getitems__(range(start, min(start + _CHUNK, len(source))))


def _columns(source: Source) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (users, items, labels) of click examples."""
    for records in _chunks(source):
        yield (
            np.array([record["user"] for record in records]),
            np.array([record["item"] for record in records]),
            np.array([record["label"] for record in records]),
        )
