"""The contract of results.json: shapes, too few, NaN, verdicts."""

import json

import numpy as np
import pytest

from recjax.evaluation import results, schema, verdicts

CONFIG = results.StatisticsConfig((5, 10), bootstrap_samples=200, min_slice_targets=50)
PROTOCOL = {"split": "time", "candidates": "all items", "mask_history": True, "ties": "half"}
COST = {"prepare": {"wall_seconds": 1.0}}


def _ranks(rng: np.random.Generator, seeds: int, hit_share: float) -> np.ndarray:
    hit = rng.random((seeds, 2000)) < hit_share
    return np.where(hit, rng.integers(0, 10, hit.shape), 500).astype(np.float32)


def _results(floor: float, real: float, expanded: float, **more: float) -> dict:
    rng = np.random.default_rng(1)
    shares = {"real": real, "expanded": expanded, **more}
    ranks = {"floor": _ranks(rng, 1, floor)} | {a: _ranks(rng, 3, s) for a, s in shares.items()}
    slices = {"history_1_4": np.arange(2000) < 900, "cold_user": np.arange(2000) < 7}
    task = results.ranked_task(ranks, slices, PROTOCOL, CONFIG)
    return results.assemble_results({"next_item": task}, {"users": 2000}, "validation", {}, COST)


def test_task_has_the_shape_of_the_contract() -> None:
    found = _results(0.05, 0.1, 0.3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    task = found["tasks"]["next_item"]
    assert task["protocol"]["cutoffs"] == [5, 10]
    metric = task["arms"]["expanded"]["metrics"]["ndcg_at_10"]
    assert len(metric["per_seed"]) == 3 and metric["n"] == 2000
    assert metric["mean"] == pytest.approx(np.mean(metric["per_seed"]))
    assert metric["sd"] == pytest.approx(np.std(metric["per_seed"], ddof=1))
    assert metric["ci95"][0] < metric["mean"] < metric["ci95"][1]
    assert task["arms"]["floor"]["metrics"]["hr_at_10"]["sd"] is None
    lift = task["lift"]["expanded vs real"]["ndcg_at_10"]
    real = task["arms"]["real"]["metrics"]["ndcg_at_10"]["mean"]
    assert lift["absolute"] == pytest.approx(metric["mean"] - real)
    assert lift["relative"] == pytest.approx(metric["mean"] / real - 1)
    assert lift["p_holm"] >= lift["p_value"]


def test_small_slice_says_too_few_and_a_large_one_its_own_numbers() -> None:
    task = _results(0.05, 0.1, 0.3)["tasks"]["next_item"]
    too_few = {"too_few": True, "n": 7}
    assert task["arms"]["real"]["slices"]["cold_user"] == too_few
    lift = task["lift"]["expanded vs real"]["ndcg_at_10"]
    assert lift["slices"]["cold_user"] == too_few
    assert lift["slices"]["history_1_4"]["n"] == 900
    assert "slices" not in lift["slices"]["history_1_4"]
    assert task["arms"]["real"]["slices"]["history_1_4"]["metrics"]["hr_at_5"]["n"] == 900


def test_extra_metrics_stand_beside_the_others() -> None:
    ranks = {"real": _ranks(np.random.default_rng(0), 2, 0.1)}
    extra = {"real": [{"coverage_at_10": 0.4}, {"coverage_at_10": 0.6}]}
    task = results.ranked_task(ranks, {}, PROTOCOL, CONFIG, extra=extra)
    coverage = task["arms"]["real"]["metrics"]["coverage_at_10"]
    assert coverage["mean"] == pytest.approx(0.5) and coverage["per_seed"] == [0.4, 0.6]


def test_click_task_counts_a_slice_of_one_class_as_too_few() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(600) < 0.4).astype(np.float64)
    good = np.clip(0.5 * labels + 0.5 * rng.random((2, 600)), 0, 1)
    slices = {"pair_unseen": np.arange(600) < 300, "clicked": labels > 0}
    task = results.click_task(
        labels, {"floor": np.full(600, 0.4), "real": good}, np.arange(600) // 3, slices, {}, CONFIG
    )
    assert task["arms"]["floor"]["metrics"]["auc"]["mean"] == pytest.approx(0.5)
    assert task["arms"]["real"]["metrics"]["auc"]["mean"] > 0.8
    assert task["arms"]["real"]["slices"]["clicked"]["too_few"]
    assert "auc" in task["arms"]["real"]["slices"]["pair_unseen"]["metrics"]
    assert sum(b["count"] for b in task["calibration"]["real"]) == 600
    schema.validate_results(results.assemble_results({"click": task}, {}, "validation", {}, COST))


def test_verdict_pays_and_names_the_slice_only_if_above_the_whole() -> None:
    text = _results(0.05, 0.1, 0.3)["verdict"]
    assert text.startswith("Expansion pays: +") and "NDCG@10 against real only" in text


def test_verdict_no_gain_hurts_and_floor() -> None:
    assert _results(0.05, 0.2, 0.2)["verdict"].startswith("No gain: ")
    assert _results(0.05, 0.3, 0.1)["verdict"].startswith("Expansion hurts: -")
    text = _results(0.4, 0.1, 0.2)["verdict"]
    assert text.startswith("The counting floor beats every model") and "Expansion changed" in text


def test_verdict_takes_the_strongest_control() -> None:
    assert _results(0.05, 0.1, 0.3, repeated=0.3)["verdict"].startswith("No gain: ")


def test_verdict_one_seed_warns() -> None:
    rng = np.random.default_rng(0)
    ranks = {"real": _ranks(rng, 1, 0.1), "expanded": _ranks(rng, 1, 0.3)}
    task = results.ranked_task(ranks, {}, PROTOCOL, CONFIG)
    assert "one seed only" in verdicts.verdict({"tasks": {"next_item": task}})


def test_verdict_without_models_or_tasks() -> None:
    assert "Nothing was evaluated" in verdicts.verdict({"tasks": {}})
    task = results.ranked_task({"floor": np.zeros(60)}, {}, PROTOCOL, CONFIG)
    assert "Only floors" in verdicts.verdict({"tasks": {"next_item": task}})


def test_plain_replaces_what_json_cannot_hold() -> None:
    value = {"a": np.float32(1.5), 2: (np.nan, np.inf), "c": np.array([1, 2]), "d": np.bool_(True)}
    assert results.plain(value) == {"a": 1.5, "2": [None, None], "c": [1, 2], "d": True}


def test_schema_names_every_problem() -> None:
    found = _results(0.05, 0.1, 0.3)
    del found["selection"]
    with pytest.raises(ValueError, match="selection: must be of type str"):
        schema.validate_results(found)
    found = _results(0.05, 0.1, 0.3)
    task = found["tasks"]["next_item"]
    del task["arms"]["real"]["metrics"]["hr_at_5"]["sd"]
    del task["lift"]["expanded vs real"]["hr_at_5"]["p_holm"]
    with pytest.raises(ValueError) as problems:
        schema.validate_results(found)
    assert "arms.real.metrics.hr_at_5.sd: missing" in str(problems.value)
    assert "lift.expanded vs real.hr_at_5.p_holm: missing" in str(problems.value)
    found = _results(0.05, 0.1, 0.3)
    found["data"]["x"] = float("nan")
    with pytest.raises(ValueError, match="not plain JSON"):
        schema.validate_results(found)
