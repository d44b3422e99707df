"""A labelled table's whole way through the program, and the ways it is refused."""

import json

import pytest
from row_table import write_table

from recjax.evaluation.schema import validate_results
from recjax.main import main

CONFIG = """
from ml_collections import ConfigDict
from configs import default

def get_config():
    config = default.get_config()
    config.name, config.num_seeds = "rows", 2
    config.stages = ("prepare", "finetune", "evaluate", "report")
    config.data.kind = "table"
    config.data.table.update(user="user", item="item")
    config.prepare.split.method = "rows"
    config.prepare.features = ConfigDict({{name: {{}} for name in ("user", "item", "hour")}})
    config.pretrain.num_steps = 0
    training = config.finetune.row_click
    training.update(heads=("lr", "fm"), num_steps=60, eval_interval_steps=20, batch_size=32)
    training.update(warmup_steps=0, learning_rate=0.1, clip_norm=0.0)
    training.overrides = ConfigDict({{"fm": {{"embedding_dim": 4}}}})
    config.tune.update(num_trials=2, num_seeds=1, num_rungs=0, task="row_click", arms=("fm",))
    config.tune.space = (("finetune.row_click.l2", "float", 0.0, 0.1),)
    config.evaluate.update(batch_size=32, bootstrap_samples=50, min_slice_targets=5)
    config.evaluate.update(ensembles=True, calibration="temperature")
    config.logging.tensorboard = False
    config.data.path = "{path}"
    return config
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write_table(folder / "rows.parquet")
    (folder / "rows.py").write_text(CONFIG.format(path=folder / "rows.parquet"))

    def call(*flags):
        return main([f"--config={folder}/rows.py", f"--workdir={folder}/work", *flags])

    assert call() == 0
    return folder / "work", call


def test_results_hold_heads_floor_and_slices(run):
    results = json.loads((run[0] / "results.json").read_text())
    validate_results(results)
    task = results["tasks"]["row_click"]
    together = {"lr_ensemble", "fm_ensemble"}
    assert set(task["arms"]) == {"floor", "lr", "fm"} | together and "fm vs floor" in task["lift"]
    assert len(task["arms"]["fm_ensemble"]["metrics"]["auc"]["per_seed"]) == 1
    assert {"gauc", "pr_auc", "lift_top_tenth", "normalised_entropy"} < set(
        task["arms"]["fm"]["metrics"]
    )
    auc = {arm: facts["metrics"]["auc"] for arm, facts in task["arms"].items()}
    assert len(auc["fm"]["per_seed"]) == 2
    assert auc["fm"]["mean"] > auc["lr"]["mean"]  # parity of two numbers is no sum of weights
    assert set(task["arms"]["fm"]["slices"]) == {"pair_unseen", "pair_seen"}
    assert results["data"]["rows"] == {"train": 192, "valid": 24, "test": 24}
    assert "fm" in results["verdict"] and "AUC" in results["verdict"]


def test_report_shows_the_table(run):
    page = (run[0] / "report.html").read_text()
    for words in (
        "Labelled rows",
        "outcome: label",
        "pair floor",
        "lr",
        "fm",
        "AUC",
        "<td>train</td><td>192</td>",
    ):
        assert words in page


def test_second_call_finds_all_done_and_another_setting_is_refused(run, capsys):
    work, call = run
    before = (work / "results.json").stat().st_mtime_ns
    assert call() == 0 and (work / "results.json").stat().st_mtime_ns == before
    assert call("--config.prepare.split.seed=1") == 2
    assert "'prepare' was made with config.prepare.split.seed = 0" in capsys.readouterr().err


def test_dry_run_takes_the_sizes_of_the_prepared_table(run, capsys):
    work, call = run
    rows = json.loads((work / "prepared/profile.json").read_text())["table_rows"]
    capsys.readouterr()
    assert call("--dry_run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"3 features, {rows} embedding rows, by {work}/prepared/features.json" in said
    assert "finetune/row_click/fm: 1 training (fm), 2 seeds at once, 60 steps of 32 rows on" in said
    assert "optimizer moments" in said and "head/linear" in said


@pytest.mark.slow
def test_tune_tries_a_head_on_validation(run):
    work, call = run
    assert call("--stages=prepare,tune") == 0
    trials = json.loads((work / "tuning" / "trials.json").read_text())["trials"]
    assert len(trials) == 2 and {trial["arm"] for trial in trials} == {"fm"}
    chosen = (work / "tuning" / "chosen_fm.py").read_text()
    assert "config.finetune.row_click.l2 = " in chosen


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--stages=prepare,expand",), "stage 'expand' reads a behaviour log"),
        (("--config.data.kind=tabel",), "config.data.kind = 'tabel'; known: log, table"),
        (("--config.data.source=tfds",), "a table is read from files: 'file'"),
        (("--config.data.table.label=click",), "has no column 'click'"),
    ],
)
def test_what_does_not_fit_ends_with_one_message(run, tmp_path, capsys, flags, message):
    _, call = run
    assert call(f"--workdir={tmp_path}", *flags) == 2
    assert message in " ".join(capsys.readouterr().err.split())


OUTCOMES = """
from ml_collections import ConfigDict
from {config} import get_config as whole

def get_config():
    config = whole()
    config.data.table.also = ConfigDict({{"buy": {{"column": "buy", "yes": ""}}}})
    config.finetune.tasks = ("row_outcomes",)
    training = config.finetune.row_outcomes
    training.update(heads=("esmm",), num_steps=20, eval_interval_steps=20, batch_size=64)
    training.update(gradient_surgery="pcgrad", balance="uncertainty", learning_rate=0.1)
    training.model.update(hidden_dims=(4,), tower_dims=(2,), embedding_dim=4)
    return config
"""


@pytest.mark.slow
def test_outcomes_are_judged_one_by_one_beside_each_alone(tmp_path, monkeypatch):
    rows = tmp_path / "rows.parquet"
    write_table(rows, outcomes=("buy",))
    (tmp_path / "table_of_outcomes.py").write_text(CONFIG.format(path=rows))
    (tmp_path / "outcomes.py").write_text(OUTCOMES.format(config="table_of_outcomes"))
    monkeypatch.syspath_prepend(tmp_path)
    assert main([f"--config={tmp_path}/outcomes.py", f"--workdir={tmp_path}/work"]) == 0
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    validate_results(results)
    assert set(results["tasks"]) == {"row_click_label", "row_click_buy"}
    for task in results["tasks"].values():
        alone = {"single", "single_ensemble"}
        assert set(task["arms"]) == {"floor", "esmm", "esmm_ensemble"} | alone
        assert "esmm vs single" in task["lift"] and "single vs floor" in task["lift"]
    page = (tmp_path / "work" / "report.html").read_text()
    for words in ("Outcome: buy", "single task", "pair floor"):
        assert words in page
