"""What a watcher sees; where rows go: files, TensorBoard, Weights & Biases (a stand-in for it)."""

import json
import sys
import time

import pytest
from rich.console import Console

from recjax import logs, main
from recjax.errors import UserError
from recjax.logs import MetricWriter, Progress, import_wandb, read_metrics
from recjax.workdir import Workdir


def test_watcher_tells_a_long_step_from_a_dead_run(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_ALIVE_SECONDS", 0.02)
    progress = Progress(Workdir.open(tmp_path), Console(quiet=True))

    def read():
        return json.loads((tmp_path / "progress.json").read_text())

    with progress.alive():
        progress.stage("prepare")
        first = read()
        assert (first["stage"], first["state"], first["step"]) == ("prepare", "running", 0)
        deadline = time.monotonic() + 20
        while (seen := read())["time"] == first["time"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert seen["changed"] == first["changed"] <= first["time"] < seen["time"]
        progress.say("clean")
        now = read()
        assert now["changed"] > first["changed"] and now["note"] == "clean"
    progress.finish("done")
    assert read()["state"] == "done"


def write_two_steps(folder, first_step=0, **sinks):
    writer = MetricWriter(
        folder, first_step, "pretrain/real", **{"tensorboard": False, "wandb_project": "", **sinks}
    )
    for step in (first_step + 1, first_step + 2):
        writer.write(step, 7, {"train/loss": 0.5})
        writer.write_timings(step, {"time/step_seconds": 0.1})
    writer.close()


def test_metrics_and_timings_lie_apart_and_never_double_back(tmp_path):
    write_two_steps(tmp_path)
    write_two_steps(tmp_path, first_step=1)
    metrics, timings = (read_metrics(tmp_path / f"{n}.jsonl") for n in ("metrics", "timings"))
    assert [row["step"] for row in metrics] == [row["step"] for row in timings] == [1, 2, 3]
    assert metrics[0] == {"step": 1, "seed": 7, "train/loss": 0.5}
    assert timings[0] == {"step": 1, "time/step_seconds": 0.1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "timings.jsonl"]


def test_tensorboard_gets_both(tmp_path):
    write_two_steps(tmp_path, tensorboard=True)
    events = b"".join(path.read_bytes() for path in tmp_path.glob("events.*"))
    assert b"train/loss/seed_7" in events and b"time/step_seconds" in events


class Wandb:
    """Remembers how runs are opened and what they are told."""

    def __init__(self):
        self.opened, self.told, self.finished = [], [], 0

    def init(self, **settings):
        self.opened.append(settings)
        return self

    @property
    def id(self):
        return self.opened[-1]["id"] or "abc123"

    def log(self, values, step):
        self.told.append((step, values))

    def finish(self):
        self.finished += 1


def test_wandb_gets_both_and_a_resumed_training_keeps_its_run(tmp_path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    write_two_steps(tmp_path, wandb_project="shop")
    assert (1, {"train/loss/seed_7": 0.5}) in wandb.told
    assert (2, {"time/step_seconds": 0.1}) in wandb.told
    write_two_steps(tmp_path, first_step=1, wandb_project="shop")
    first, second = wandb.opened
    assert (first["project"], first["name"], first["id"]) == ("shop", "pretrain/real", None)
    assert (second["id"], second["resume"]) == ("abc123", "allow")
    assert wandb.finished == 2
    assert json.loads((tmp_path / "wandb_run.json").read_text()) == {"id": "abc123"}


def test_missing_wandb_is_told_at_once_with_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'recjax\[wandb\]'"):
        import_wandb()
    words = ["--config=configs/smoke.py", f"--workdir={tmp_path / 'work'}"]
    assert main.main([*words, "--config.logging.wandb_project=shop"]) == 2
    assert "recjax[wandb]" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
