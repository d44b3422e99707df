"""Two processes train, rank, stop and fail as one: real processes that meet on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_training import TASKS, one_device, rank_next_items, train_steps

from recjax import distributed, interrupts, main
from recjax.errors import UserError
from recjax.logs import read_metrics
from recjax.parallel import PmapEngine, make_engine, make_mesh
from recjax.train import read_summary

ROOT = Path(__file__).resolve().parents[1]
HEARTBEAT_SECONDS = 10
PATIENCE_SECONDS = 500

# one worker: what two of these make of two cores is waiting for each other
pytestmark = pytest.mark.xdist_group("processes")


class Processes:
    """The processes of one run, `devices` fake CPU devices each; one log file for all."""

    def __init__(self, words, log, *, number=2, devices=4):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.log, self.members = log, []
        for index in range(number):
            joined = {
                "RECJAX_COORDINATOR": f"127.0.0.1:{port}",
                "RECJAX_NUM_PROCESSES": str(number),
                "RECJAX_PROCESS_ID": str(index),
                "RECJAX_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            }
            with open(log, "a") as file:
                self.members.append(
                    subprocess.Popen(
                        [sys.executable, *words],
                        cwd=ROOT,
                        env={
                            **os.environ,
                            **(joined if number > 1 else {}),
                            "JAX_PLATFORMS": "cpu",
                            "JAX_NUM_CPU_DEVICES": str(devices),
                            "PYTHONPATH": str(ROOT),
                        },
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=file,
                    )
                )

    def wait(self):
        """Exit codes in order; all end within the test's patience."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            return [p.wait(max(1.0, deadline - time.monotonic())) for p in self.members]
        finally:
            for process in self.members:
                process.kill()

    def said(self):
        return Path(self.log).read_text()[-6000:]


def run_main(workdir, words=(), **shape):
    """Starts the program with the smoke config on a work directory."""
    words = ["-m", "recjax.main", "--config=configs/smoke.py", f"--workdir={workdir}", *words]
    return Processes(words, f"{workdir}.log", **shape)


# ---- who takes part ----


def test_a_process_alone_joins_nobody():
    assert distributed.read_environment({}) is None
    named = {"RECJAX_COORDINATOR": "host:1", "RECJAX_NUM_PROCESSES": "2", "RECJAX_PROCESS_ID": "1"}
    assert distributed.read_environment(named | {"RECJAX_DIST": "off"}) is None
    assert distributed.read_environment(named | {"COLAB_RELEASE_TAG": "r"}) is None
    assert distributed.is_main() and distributed.count() == 1
    assert distributed.agree(True, due=False) and not distributed.agree(False)
    assert distributed.leave(42) == 42
    distributed.wait_for_main("nobody")


def test_environment_names_the_coordinator_and_the_patience():
    named = {"RECJAX_COORDINATOR": "host:1", "RECJAX_NUM_PROCESSES": "2", "RECJAX_PROCESS_ID": "1"}
    member = distributed.read_environment(named | {"RECJAX_HEARTBEAT_SECONDS": "7"})
    assert (member.coordinator, member.num_processes, member.process_id) == ("host:1", 2, 1)
    assert (member.init_seconds, member.heartbeat_seconds, member.shutdown_seconds) == (300, 7, 300)
    assert distributed.read_environment({"JAX_COORDINATOR_ADDRESS": "h:2"}).coordinator == "h:2"
    assert distributed.read_environment({"RECJAX_DIST": "force"}).coordinator is None


def test_slurm_step_of_several_tasks_is_joined(monkeypatch):
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    for name in names:
        monkeypatch.setenv(name, "1")
    for tasks, joined in (("1", False), ("4", True)):
        monkeypatch.setenv("SLURM_NTASKS", tasks)
        assert (distributed.read_environment(os.environ) is not None) == joined


@pytest.mark.parametrize(
    ("name", "value"), [("RECJAX_DIST", "yes"), ("RECJAX_NUM_PROCESSES", "two")]
)
def test_wrong_environment_is_named(name, value):
    with pytest.raises(UserError, match=f"{name} = '{value}'"):
        distributed.read_environment({"RECJAX_COORDINATOR": "h:1", name: value})


def test_pmap_is_for_one_process(monkeypatch):
    mesh = make_mesh({"data": -1})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="'pmap' runs in one process, here are 2"):
        PmapEngine(mesh)


def test_tuning_is_for_one_process(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(interrupts, "install", lambda: None)  # leaves the handlers of the session
    words = ["--config", str(ROOT / "configs/smoke.py"), "--workdir", str(tmp_path)]
    assert main.main([*words, "--stages", "tune"]) == 2
    assert "stage 'tune' runs in one process, here are 2" in capsys.readouterr().err


# ---- the same numbers ----


def in_two_processes(folder, name, num_steps, devices, late=0):
    output = folder / f"{name}.json"
    words = ["tests/tiny_process.py", name, str(num_steps), str(output), str(late)]
    run = Processes(words, folder / "log", devices=devices)
    assert run.wait() == [0, 0], run.said()
    return json.loads(output.read_text())


def test_two_processes_train_and_rank_as_one_device_does(tmp_path):
    """Dropout on; 21 examples in batches of 8, rows dealt out in turn, so nothing fits evenly."""
    found = in_two_processes(tmp_path, "next_item", 5, devices=2)
    losses, state = train_steps(one_device(), "next_item", 5)
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-5, atol=1e-5)
    ranks, top_items = rank_next_items(one_device(), state.params)
    assert ranks.shape == (2, 21)
    np.testing.assert_array_equal(found["ranks"], ranks)
    np.testing.assert_array_equal(found["top_items"], top_items)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_of_four_devices_train_as_one_of_eight_and_as_one_device(tmp_path, name):
    found = np.array(in_two_processes(tmp_path, name, 20, devices=4)["losses"])
    assert jax.device_count() == 8 and found.shape == (20, 2)
    for engine in (make_engine("jit", {"data": -1}), one_device()):
        losses, _ = train_steps(engine, name, 20)
        np.testing.assert_allclose(found, losses, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_processes_wait_for_one_that_compiles_longer(tmp_path):
    """Without open connections those of CPUs give up after 30 seconds."""
    losses = in_two_processes(tmp_path, "click", 2, devices=2, late=45)["losses"]
    assert np.isfinite(losses).all()


# ---- the same end ----


def test_error_of_process_0_ends_all_with_its_code_and_one_message(tmp_path):
    run = run_main(tmp_path / "run", ["--config.data.source=file", "--config.data.path=none.csv"])
    assert run.wait() == [2, 2], run.said()
    said = run.said()
    assert said.count("none.csv") == 1 and "Traceback" not in said
    assert "process 0 ended with code 2" in said


# ---- the whole program (slow) ----

STEPS = ["--config.pretrain.num_steps=20", "--config.logging.interval_steps=1"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The work directory of a whole run of one process on one device."""
    folder = tmp_path_factory.mktemp("processes") / "alone"
    run = run_main(folder, STEPS, number=1, devices=1)
    assert run.wait() == [0], run.said()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whole_run_of_two_processes_gives_the_numbers_of_one(alone, tmp_path):
    together = tmp_path / "together"
    run = run_main(together, STEPS)
    assert run.wait() == [0, 0], run.said()
    for arm in ("real", "expanded"):
        rows, expected = (
            read_metrics(folder / "pretrain" / arm / "metrics.jsonl")
            for folder in (together, alone)
        )
        assert [(row["step"], row["seed"]) for row in rows] == [
            (row["step"], row["seed"]) for row in expected
        ]
        for row, other in zip(rows, expected, strict=True):
            np.testing.assert_allclose(list(row.values()), list(other.values()), atol=1e-5)
    found, expected = (json.loads((f / "results.json").read_text()) for f in (together, alone))
    for task, metric in (("next_item", "ndcg_at_10"), ("click", "auc")):
        for arm in ("floor", "real", "expanded"):
            mine, other = (r["tasks"][task]["arms"][arm]["metrics"] for r in (found, expected))
            np.testing.assert_allclose(
                mine[metric]["per_seed"], other[metric]["per_seed"], atol=2e-3
            )
    users, others = (
        pq.read_table(folder / "recommendations.parquet")["user_id"].to_pylist()
        for folder in (together, alone)
    )
    assert users == others
    assert json.loads((together / "progress.json").read_text())["state"] == "done"


# ---- stopped and killed (slow) ----

LONG = [
    "--stages=pretrain",
    "--config.pretrain.num_steps=400",
    "--config.pretrain.eval_interval_steps=100",
    "--config.checkpoint.interval_steps=20",
    "--config.logging.interval_steps=4",
]


def prepared_copy(alone, target):
    """A work directory that has all that comes before pretraining."""
    for name in ("prepared", "features", "expansion"):
        if (alone / name).exists():
            shutil.copytree(alone / name, target / name)
    for stage in ("prepare", "features", "expand"):
        (target / ".stages").mkdir(exist_ok=True)
        shutil.copy(alone / ".stages" / f"{stage}.json", target / ".stages")
    return target


def wait_for_step(run, workdir, step):
    """Waits until training of the first arm is well under way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert time.monotonic() < deadline and run.members[0].poll() is None, run.said()
        path = workdir / "progress.json"
        progress = json.loads(path.read_text()) if path.exists() else {}
        if progress.get("label") == "pretrain/real" and progress["step"] >= step:
            return
        time.sleep(0.02)


def saved_steps(workdir):
    folder = workdir / "pretrain" / "real" / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def undisturbed(alone, tmp_path_factory):
    """Pretraining of two processes of two devices, to its end."""
    folder = prepared_copy(alone, tmp_path_factory.mktemp("undisturbed") / "run")
    run = run_main(folder, LONG, devices=2)
    assert run.wait() == [0, 0], run.said()
    return folder


def assert_ends_as_if_undisturbed(workdir, undisturbed):
    run = run_main(workdir, LONG, devices=2)
    assert run.wait() == [0, 0], run.said()
    for arm in ("real", "expanded"):
        mine, other = (
            read_metrics(f / "pretrain" / arm / "metrics.jsonl") for f in (workdir, undisturbed)
        )
        assert mine == other
        mine, other = (read_summary(f / "pretrain" / arm) for f in (workdir, undisturbed))
        assert mine["best_metric"] == other["best_metric"] and mine["steps"] == other["steps"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stopped", [0, 1])
def test_stop_of_one_process_saves_the_same_step_on_all(alone, undisturbed, tmp_path, stopped):
    workdir = prepared_copy(alone, tmp_path / "run")
    run = run_main(workdir, LONG, devices=2)
    wait_for_step(run, workdir, 30)
    run.members[stopped].send_signal(signal.SIGTERM)
    assert run.wait() == [42, 42], run.said()
    assert saved_steps(workdir)[-1] % 4 == 0  # where all could agree
    assert json.loads((workdir / "progress.json").read_text())["state"] == "interrupted"
    assert_ends_as_if_undisturbed(workdir, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("killed", [0, 1])
def test_death_of_one_process_ends_the_others_and_a_restart_goes_on(
    alone, undisturbed, tmp_path, killed
):
    workdir = prepared_copy(alone, tmp_path / "run")
    run = run_main(workdir, LONG, devices=2)
    wait_for_step(run, workdir, 50)
    run.members[killed].kill()
    started = time.monotonic()
    codes = run.wait()
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] in (134, -signal.SIGABRT), run.said()
    assert time.monotonic() - started < 3 * HEARTBEAT_SECONDS
    assert 20 <= saved_steps(workdir)[-1] < 400
    assert_ends_as_if_undisturbed(workdir, undisturbed)
