"""The smoke run as a user starts it, once; what it leaves behind is read from all sides."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recjax.data.record_sources import open_examples
from recjax.evaluation.schema import validate_results
from recjax.main import parse

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("smoke")  # one worker, so that there is one run
# runs the program and then tells what the process has loaded
RUN = """
import json, sys
from recjax.main import main
code = main(sys.argv[2:])
heavy = sorted({name.split(".")[0] for name in sys.modules} & {"tensorflow", "torch"})
open(sys.argv[1], "w").write(json.dumps({"code": code, "heavy": heavy}))
"""


class Smoke:
    """One work directory of the smoke config."""

    def __init__(self, folder):
        self.folder, self.work = folder, folder / "work"

    def run(self, *flags):
        facts = self.folder / "facts.json"
        command = [sys.executable, "-c", RUN, str(facts), "--config", "configs/smoke.py"]
        done = subprocess.run(
            [*command, "--workdir", str(self.work), *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(facts.read_text()), "out": done.stdout, "err": done.stderr}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    run = Smoke(tmp_path_factory.mktemp("smoke"))
    run.first = run.run()
    assert run.first["code"] == 0, run.first["err"]
    return run


def read(smoke, name):
    return json.loads((smoke.work / name).read_text())


def test_neither_tensorflow_nor_torch_is_loaded(smoke):
    assert smoke.first["heavy"] == []


def test_results_keep_the_contract_and_carry_floors_arms_and_oracle(smoke):
    results = read(smoke, "results.json")
    validate_results(results)
    next_item = results["tasks"]["next_item"]
    trained = {"real", "expanded", "fused", "expanded_fused"}
    assert {"floor", "popularity", "item_knn", "oracle", *trained} <= set(next_item["arms"])
    assert {"expanded vs fused", "expanded_fused vs fused"} <= set(next_item["lift"])
    assert set(next_item["protocol"]["fusion_weights"]) == {"fused", "expanded_fused"}
    assert "ndcg_at_10" in next_item["lift"]["expanded vs real"]
    assert len(next_item["arms"]["real"]["metrics"]["ndcg_at_10"]["per_seed"]) == 2
    assert next_item["arms"]["oracle"]["metrics"]["ndcg_at_10"]["mean"] > max(
        next_item["arms"][arm]["metrics"]["ndcg_at_10"]["mean"] for arm in ("floor", "real")
    )
    assert set(results["tasks"]["click"]["arms"]) >= {"floor", "real", "expanded", "oracle"}


def test_the_terminal_ends_with_table_verdict_and_report(smoke):
    out = smoke.first["out"]
    for words in ("counting floor", "real only", "expanded", "report:"):
        assert words in out
    verdict = read(smoke, "results.json")["verdict"]
    assert verdict in " ".join(out.split())
    assert out.rstrip().endswith(str(smoke.work / "report.html"))


def test_report_stands_alone(smoke):
    page = (smoke.work / "report.html").read_text()
    assert 'src="http' not in page and 'href="http' not in page and "<svg" in page
    for title in ("What was done", "Next item", "Click-through", "Expansion", "Training", "Cost"):
        assert title in page


def test_cost_of_each_training_reaches_results_and_report(smoke):
    cost, page = read(smoke, "results.json")["cost"], (smoke.work / "report.html").read_text()
    assert set(cost["pretrain"]["trainings"]) == {"real", "expanded"}
    for stage in ("pretrain", "finetune"):
        for label, times in cost[stage]["trainings"].items():
            assert 0 <= times["device_wait_share"] <= times["data_wait_share"] < 1
            assert times["tokens_per_second"] > 0 and times["examples_per_second"] > 0
            assert f"<td>{stage} {label}</td>" in page
            assert "parameters" in (smoke.work / stage / label / "parameters.txt").read_text()
        assert cost[stage]["step_seconds"] > 0


def test_every_user_is_recommended_to_cold_ones_included(smoke):
    rows = pq.read_table(smoke.work / "recommendations.parquet").to_pandas()
    users = pq.read_table(smoke.work / "prepared" / "users.parquet").to_pandas()
    assert set(rows.user_id) == set(users.user_id)
    assert (users.num_train_events == 0).any()
    assert rows.groupby("user_id")["rank"].apply(lambda r: list(r) == [*range(1, len(r) + 1)]).all()
    assert rows.groupby("user_id").score.apply(lambda s: s.is_monotonic_decreasing).all()
    events = pq.read_table(smoke.work / "prepared" / "events.parquet").to_pandas()
    items = pq.read_table(smoke.work / "prepared" / "items.parquet").to_pandas().item_id
    seen = set(zip(users.user_id[events.user], items[events.item], strict=True))
    assert not seen & set(zip(rows.user_id, rows.item_id, strict=True))


def test_synthetic_users_are_marked_and_stay_out_of_validation_and_test(smoke):
    prepared = smoke.work / "prepared" / "examples"
    for name, split in (("sequences", "train"), ("next_item", "valid"), ("next_item", "test")):
        source = open_examples(prepared, name, split)
        assert len(source) and all(source[i]["source"] == 0 for i in range(len(source)))
    draws = [
        open_examples(smoke.work / "expansion" / "expanded" / f"seed_{seed}", "sequences", "train")
        for seed in (0, 1)
    ]
    assert all(draw[i]["source"] > 0 for draw in draws for i in range(len(draw)))
    first, second = (draw[0]["items"] for draw in draws)
    assert not np.array_equal(first, second)  # each seed draws its own users


def test_bad_rows_are_kept_with_their_reason(smoke):
    rows = pq.read_table(smoke.work / "prepared" / "quarantine.parquet").to_pandas()
    assert len(rows) and rows.reason.str.len().min() > 0
    assert read(smoke, "prepared/profile.json")["quarantine"]


def test_second_call_repeats_nothing(smoke):
    before = {p: p.stat().st_mtime_ns for p in smoke.work.rglob("*.parquet")}
    results = (smoke.work / "results.json").read_bytes()
    again = smoke.run()
    assert again["code"] == 0 and again["out"].count("(done before)") == 8
    assert (smoke.work / "results.json").read_bytes() == results
    assert before == {p: p.stat().st_mtime_ns for p in smoke.work.rglob("*.parquet")}


def test_other_settings_are_refused_naming_the_field(smoke):
    other = smoke.run("--config.pretrain.num_steps=13")
    assert other["code"] == 2 and "config.pretrain.num_steps = 12, now it is 13" in other["err"]
    assert "Traceback" not in other["err"]


def test_candidates_are_scored_and_strangers_refused(smoke):
    rows = pq.read_table(smoke.work / "recommendations.parquet").to_pandas().head(30)
    path = smoke.folder / "candidates.csv"
    rows[["user_id", "item_id"]].to_csv(path, index=False)
    flags = ("--stages", "recommend", "--redo", "recommend")
    flag = f"--config.recommend.candidates_path={path}"
    assert smoke.run(*flags, flag)["code"] == 0
    scores = pq.read_table(smoke.work / "candidate_scores.parquet").to_pandas()
    merged = rows.merge(scores, on=["user_id", "item_id"])
    np.testing.assert_allclose(merged.score_x, merged.score_y, rtol=1e-4, atol=1e-5)
    path.write_text("user_id,item_id\nnobody,nothing\n")
    refused = smoke.run(*flags, flag)
    assert refused["code"] == 2 and "line 2: user_id 'nobody'" in refused["err"]


TUNE = (
    "--stages=tune",
    "--config.tune.arms=('real',)",
    "--config.tune.num_trials=3",
    "--config.tune.num_seeds=2",
    "--config.tune.num_rungs=1",
    "--config.pretrain.num_steps=0",
    "--config.finetune.next_item.num_steps=4",
    "--config.finetune.next_item.eval_interval_steps=1",
    "--config.tune.space=(('finetune.next_item.learning_rate', 'log', 1e-4, 1e-1),"
    " ('model.dropout_rate', 'choice', (0.0, 0.3)))",
)


@pytest.mark.slow
def test_tune_tries_settings_on_validation_and_writes_the_chosen_config(smoke, tmp_path):
    """The test part is out of reach meanwhile."""
    hidden = sorted((smoke.work / "prepared" / "examples").rglob("*-test*"))
    assert hidden
    for place, path in enumerate(hidden):
        path.rename(tmp_path / str(place))
    try:
        done = smoke.run(*TUNE)
    finally:
        for place, path in enumerate(hidden):
            (tmp_path / str(place)).rename(path)
    assert done["code"] == 0, done["err"]
    trials = read(smoke, "tuning/trials.json")["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert all(len(trial["per_seed"]) == 2 for trial in trials)
    for trial in trials:  # 2 of 4 steps is the rung
        assert trial["steps"] == {"complete": 4, "pruned": 2}[trial["state"]]
        assert max(map(int, trial["curve"])) == trial["steps"]
    best = max((t for t in trials if t["state"] == "complete"), key=lambda trial: trial["mean"])
    chosen = parse([f"--config={smoke.work}/tuning/chosen_real.py", "--workdir=x"]).config
    settings = best["settings"]
    assert chosen.finetune.next_item.learning_rate == settings["finetune.next_item.learning_rate"]
    assert chosen.model.dropout_rate == settings["model.dropout_rate"]
    assert chosen.data.simulated_shop.num_users == 300 and chosen.pretrain.num_steps == 0
    assert f"real: 3 trials; trial {best['number']} is chosen" in " ".join(done["out"].split())
    assert not list((smoke.work / "tuning").rglob("checkpoints"))


@pytest.mark.slow
def test_run_of_clicks_alone_ends_with_a_report(tmp_path):
    flags = ["--config.finetune.tasks=('click',)", "--config.num_seeds=1"]
    flags += ["--config.pretrain.num_steps=2", "--config.finetune.click.num_steps=4"]
    stages = "prepare,features,expand,pretrain,finetune,evaluate,report"
    listed = str(tuple(stages.split(",")))
    done = Smoke(tmp_path).run(*flags, f"--config.stages={listed}")
    assert done["code"] == 0, done["err"]
    assert "Click-through" in (tmp_path / "work" / "report.html").read_text()
