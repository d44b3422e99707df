"""A made-up run: results and context with every section filled, and some hostile text."""

from typing import Any

import numpy as np
import pytest

from recjax.evaluation import StatisticsConfig, assemble_results, click_task, ranked_task
from recjax.reporting import ReportContext

ACTIONS = ["search", "view", "click", "favourite", "cart", "buy"]
TIMES = {
    "step_seconds": 0.0421, "data_wait_share": 0.013, "device_wait_share": 0.004,
    "host_share": 0.05, "examples_per_second": 9120.0, "tokens_per_second": 81_234.0,
}  # fmt: skip
TRAININGS = {
    "pretrain": {"trainings": {"real": TIMES | {"model_flops_utilisation": 0.41}}},
    "finetune": {"trainings": {"next_item/real": TIMES, "click/real": {}}},
}
HOSTILE = '<script src="https://evil.example/x.js"></script> & "quoted" $x^2$'


def make_results() -> dict[str, Any]:
    """Returns results of six arms on 3000 made-up users, and a click task."""
    rng = np.random.default_rng(0)
    num = 3000

    def ranks(seeds: int, hit_share: float) -> np.ndarray:
        hit = rng.random((seeds, num)) < hit_share
        return np.where(hit, rng.integers(0, 10, hit.shape), 400)

    of_arms = {
        "floor": ranks(1, 0.14),
        "popularity": ranks(1, 0.06),
        "item_knn": ranks(1, 0.11),
        "real": ranks(3, 0.155),
        "expanded": ranks(3, 0.185),
        "repeated": ranks(3, 0.156),
        "ceiling": ranks(3, 0.21),
        "oracle": ranks(1, 0.3),
    }
    lengths = rng.geometric(0.12, num)
    slices = {
        "history_1_4": lengths < 5,
        "history_5_6": (lengths >= 5) & (lengths < 7),
        "history_7_19": (lengths >= 7) & (lengths < 20),
        "history_20_up": lengths >= 20,
        "target_cold": rng.random(num) < 0.04,
        "target_tail": rng.random(num) < 0.3,
        "target_head": rng.random(num) < 0.5,
        "category_new": rng.random(num) < 0.25,
        "other_day": rng.random(num) < 0.6,
    }
    protocol = {
        "split": "time",
        "candidates": "all 500 items",
        "mask_history": True,
        "ties": "half rank",
        "fusion_weights": {},
        "floor_settings": {"floor": {"window": 5, "backward": 0.5}, "popularity": {}},
    }
    lists = {
        arm: [{"coverage_at_10": 0.5 + 0.01 * s, "popularity_bias_at_10": 1.2} for s in range(3)]
        for arm in ("real", "expanded")
    }
    config = StatisticsConfig((10, 20), bootstrap_samples=200, min_slice_targets=300)
    next_item = ranked_task(of_arms, slices, protocol, config, extra=lists)
    truth = rng.beta(1, 6, num)
    labels = (rng.random(num) < truth).astype(float)
    clicks = {
        "floor": np.clip(0.14 + 0.3 * (truth - 0.14) + rng.normal(0, 0.02, num), 0.001, 0.999),
        "real": np.clip(truth + rng.normal(0, 0.06, (3, num)), 0.001, 0.999),
        "expanded": np.clip(truth + rng.normal(0, 0.055, (3, num)), 0.001, 0.999),
    }
    unseen = {"pair_unseen": rng.random(num) < 0.7}
    click = click_task(labels, clicks, rng.integers(0, 800, num), unseen, {"split": "time"}, config)
    return assemble_results(
        {"next_item": next_item, "click": click},
        data={"users": 2000, "events": 61_234},
        selection="best checkpoint of each seed by validation NDCG@10; test opened once",
        budget={"seeds": [0, 1, 2], "steps": {"pretrain": 200}, "trials_per_arm": 1},
        cost={
            stage: {"wall_seconds": seconds, **TRAININGS.get(stage, {})}
            for stage, seconds in (
                ("prepare", 11.2), ("expand", 18.0), ("pretrain", 44.5), ("finetune", 92.0),
                ("evaluate", 13.1),
            )
        },
    )  # fmt: skip


def _profile() -> dict[str, Any]:
    side = {
        "events": 63_100, "users": 2012, "items": 500, "sessions": 9100,
        "actions": {"view": 40_000, "click": 15_000, "buy": 2100},
        "first_time": 1_700_000_000, "last_time": 1_705_000_000,
        "events_per_user": {"mean": 30.6, "median": 22, "p90": 64, "max": 412},
        "items_90pct_of_events": 210, "density": 0.031,
    }  # fmt: skip
    return {
        "before": side,
        "after": {**side, "events": 61_234, "users": 1990},
        "cleaning": {"duplicate": 401, "bot": 1200, "impossible_clock": 0},
        "quarantine": {"unknown action": 22, "no user": 4},
        "split": {"train_events": 49_000},
    }


def _report_card() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    lengths = np.exp(-np.arange(33) / 9.0) / 9
    popularity = 1 / np.arange(1, 201) ** 0.9
    moves = rng.dirichlet(np.ones(6) * 0.6, 6)
    categories = rng.dirichlet(np.ones(10) * 0.4, 10)
    plots = {
        "lengths": {"events": list(range(33)), "real": lengths, "synthetic": lengths[::-1] * 0.3},
        "actions": {
            "names": ACTIONS,
            "real": [0.1, 0.5, 0.25, 0.02, 0.08, 0.05],
            "synthetic": [0.0, 0.55, 0.27, 0.03, 0.09, 0.06],
        },
        "gaps": {"bins": list(range(16)), "real": rng.dirichlet(np.ones(16)),
                 "synthetic": rng.dirichlet(np.ones(16))},
        "popularity": {"rank": list(range(1, 201)), "real": popularity / popularity.sum(),
                       "synthetic": (popularity**1.1) / (popularity**1.1).sum()},
        "nearest": {"similarity": [i / 10 for i in range(10)], "real": rng.dirichlet(np.ones(10)),
                    "synthetic": rng.dirichlet(np.ones(10))},
        "action_transitions": {"names": ACTIONS, "real": moves, "synthetic": moves[::-1]},
        "category_transitions": {
            "names": [f"Home > Kitchen > Part {i} $a$" for i in range(9)] + ["厨房用品"],
            "real": categories, "synthetic": categories[::-1],
        },
    }  # fmt: skip
    gate = {
        "hmm_users": {"drawn": 1400, "kept": 1000,
                      "removed": {"near_duplicate": 150, "likelihood_band": 210, "too_short": 40}},
        "hmm_continue": {"drawn": 1200, "kept": 1000, "removed": {"near_duplicate": 200}},
    }  # fmt: skip
    return {
        "grade": "B",
        "reasons": ["fair: lengths: differ by 0.143 (chance alone: 0.021)"],
        "real": {"users": 1990, "events": 61_234, "mean_length": 30.77},
        "synthetic": {"users": 2000, "events": 58_111, "mean_length": 29.06},
        "checks": [
            {"name": "lengths", "value": 0.143, "chance": 0.021, "grade": "fair"},
            {"name": "foreign ids", "value": 0.0, "chance": None, "grade": "good"},
        ],
        "plots": plots,
        "gate": {"0": gate, "1": gate},
    }


def _curves() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    rows: list[dict[str, Any]] = []
    for stage in ("pretrain", "finetune next_item", "finetune click"):
        for arm, gain in (("real", 0.0), ("expanded", 0.008)):
            for seed in range(3):
                for step in range(0, 201, 20):
                    row = {"stage": stage, "arm": arm, "seed": seed, "step": step}
                    loss = 6 * np.exp(-step / 90) + rng.normal(0, 0.05)
                    rows.append({**row, "train/loss": loss, "train/learning_rate": 1e-3})
                    if step and step % 40 == 0:
                        value = 0.09 * (1 - np.exp(-step / 60)) + gain + rng.normal(0, 0.002)
                        rows.append({**row, "eval/next_item/ndcg_at_10": value})
    return rows


def make_context() -> ReportContext:
    """Returns a context in which every section has material."""
    titles = [
        "Copper kettle, 1.2 l",
        "Bread knife",
        HOSTILE,
        "不锈钢锅",
        "Linen apron",
        "Tea towel",
    ]
    users = [
        {
            "user": user,
            "history": titles[: 3 + user % 2],
            "target": titles[4],
            "recommendations": {
                arm: list(np.roll(titles, shift + user)) + ["Cast-iron pan with a long name"] * 4
                for shift, arm in enumerate(("floor", "real", "expanded"))
            },
        }
        for user in range(3)
    ]
    states = [
        {
            "state": place,
            "name": name,
            "visit_share": 0.5 / (1 + place),
            "start": 0.3,
            "stop": 0.07,
            "dwell": 2.4 + place,
            "kernel_weight": 0.6,
            "actions": {"view": 0.7 - 0.1 * place, "click": 0.2, "buy": 0.1 * place, "cart": 0.1},
            "typical_gap_bin": 6,
            "top_items": [[title, 0.01] for title in titles[:3]],
            "top_categories": [["Home > Kitchen", 0.4]],
            "next": [[1, 0.3]],
        }
        for place, name in enumerate(("browsing", "comparing", "deciding", "leaving"))
    ]
    return ReportContext(
        title="quickstart: the simulated shop",
        command="python -m recjax.main --config configs/quickstart.py --workdir runs/quickstart",
        created="2026-01-31 12:00 UTC",
        config={"name": "quickstart", "model": {"hidden_dim": 48, "dropout_rate": 0.2}, "x": ""},
        environment={"versions": {"jax": "0.10.2"}, "devices": ["cpu"]},
        profile=_profile(),
        report_cards={"expanded": _report_card()},
        curves=_curves(),
        data_curve={
            "model": "counting floor",
            "metric": "ndcg_at_10",
            "rows": [
                {"share": 0.25, "users": 500, "ndcg_at_10": 0.04},
                {"share": 0.5, "users": 1000, "ndcg_at_10": 0.055},
                {"share": 1.0, "users": 2000, "ndcg_at_10": 0.063},
            ],
        },
        example_users=users,
        state_cards=states,
        notes=("The shop is simulated: its numbers say nothing about another shop.",),
    )


@pytest.fixture(scope="session")
def demo_results() -> dict[str, Any]:
    return make_results()


@pytest.fixture(scope="session")
def demo_context() -> ReportContext:
    return make_context()
