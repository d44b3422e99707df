"""`launch local`: the offline twin of a pod, through the scripts that run on a worker.

That several processes give the numbers of one, stop and fail as one is proved in test_processes.py;
here it is proved that the launcher's way of starting, stopping and counting them keeps it so.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from launch.errors import LaunchError
from launch.local import environment_of, run_local, summarise, take_workdir
from recjax.logs import read_metrics

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600
SHORT = ["--config.pretrain.num_steps=20", "--config.logging.interval_steps=1"]
LONG = [
    "--config.pretrain.num_steps=60",
    "--config.pretrain.eval_interval_steps=30",
    "--config.checkpoint.interval_steps=10",
    "--config.logging.interval_steps=4",
]
pytestmark = pytest.mark.xdist_group("processes")


def test_work_directory_is_taken_out_and_made_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["--workdir", "a"], ["--workdir=a"], ["-workdir", "a"]):
        assert take_workdir(["--config=c", *words, "--x"]) == (
            ["--config=c", "--x"],
            tmp_path / "a",
        )
    with pytest.raises(LaunchError, match="needs a work directory"):
        take_workdir(["--config=c"])
    with pytest.raises(LaunchError, match="at least 1"):
        run_local(0, 1, [])


def test_environment_of_one_and_of_several() -> None:
    alone, two = environment_of(1, 4), environment_of(2, 4)
    assert alone["RECJAX_DIST"] == "off" and "RECJAX_COORDINATOR" not in alone
    assert two["RECJAX_EXPECT_DEVICES"] == "8" and two["RECJAX_NUM_PROCESSES"] == "2"


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((42, 42), 42), ((134, 137), 137), ((134, 1), 1), ((2, 2), 2)]
)
def test_code_that_says_most_is_given(codes, code) -> None:
    assert summarise(codes) == code


def local(workdir: Path, processes: int, devices: int, words: list[str], stages="pretrain"):
    shape = [f"--processes={processes}", f"--devices={devices}"]
    program = ["--config=configs/smoke.py", f"--workdir={workdir}", f"--stages={stages}", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "launch", "local", *shape, "--", *program],
        cwd=ROOT,
        env={**os.environ, "RECJAX_HEARTBEAT_SECONDS": "10"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process) -> tuple[int, str]:
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "prepared"
    code, out = finish(local(folder, 1, 1, [], "prepare,features,expand"))
    assert code == 0, out
    return folder


def run(prepared: Path, target: Path, processes: int, devices: int, words: list[str]) -> list[dict]:
    """Trains on a copy to the end; returns the rows of the first arm."""
    if not target.exists():
        shutil.copytree(prepared, target)
    code, out = finish(local(target, processes, devices, words))
    assert code == 0, out
    assert f"exit codes{' 0' * processes};" in out
    return read_metrics(target / "pretrain/real/metrics.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_losses_are_those_of_one_process_on_one_device(prepared, tmp_path) -> None:
    expected = run(prepared, tmp_path / "one", 1, 1, SHORT)
    assert len({row["step"] for row in expected}) == 20
    for processes, devices in ((2, 4), (4, 2)):
        found = run(prepared, tmp_path / f"{processes}", processes, devices, SHORT)
        for row, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(list(row.values()), list(other.values()), atol=1e-5)
    progress = json.loads((tmp_path / "2/progress.json").read_text())
    assert progress["state"] == "done" and progress["attempt"] == 2 and progress["revision"]


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> list[dict]:
    return run(prepared, tmp_path_factory.mktemp("undisturbed") / "run", 2, 2, LONG)


def started(prepared: Path, workdir: Path):
    """A run of two processes that is well under way in its first training."""
    shutil.copytree(prepared, workdir)
    process = local(workdir, 2, 2, LONG)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        progress = json.loads((workdir / "progress.json").read_text())
        if progress.get("label") == "pretrain/real" and progress["step"] >= 14:
            return process
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stop_of_the_launcher_saves_the_same_step_on_all(prepared, undisturbed, tmp_path) -> None:
    workdir = tmp_path / "run"
    process = started(prepared, workdir)
    process.send_signal(signal.SIGTERM)
    code, out = finish(process)
    assert code == 42 and "exit codes 42 42" in out, out
    assert run(prepared, workdir, 2, 2, LONG) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_worker_that_dies_ends_the_others_and_the_run_goes_on(
    prepared, undisturbed, tmp_path
) -> None:
    workdir = tmp_path / "run"
    process = started(prepared, workdir)
    keeper = int(Path(f"{workdir}.launch/worker-1/pid").read_text())
    children = subprocess.run(["pgrep", "-P", str(keeper)], capture_output=True, text=True).stdout
    os.kill(int(children.split()[0]), signal.SIGKILL)
    code, out = finish(process)
    assert code == 137 and "exit codes 134 137" in out, out
    assert run(prepared, workdir, 2, 2, LONG) == undisturbed
