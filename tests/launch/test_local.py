"""`launch local`: the offline twin of a pod, through the scripts that run on a worker.

That several processes give the numbers of one, stop and fail as one is proved in test_processes.py;
here it is proved that the launcher's way of starting, stopping and counting them keeps it so.
"""

import importlib.util
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
PATIENCE_SECONDS, HEARTBEAT_SECONDS = 600, 10
LOAD_SECONDS = 40  # what a busy machine may add to a heartbeat
SMOKE, QUICKSTART = "configs/smoke.py", "configs/quickstart.py"
ARMS = ("real", "expanded")
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
    with pytest.raises(LaunchError, match="gs://b/run: local keeps it on this machine"):
        take_workdir(["--workdir=gs://b/run"])
    with pytest.raises(LaunchError, match="at least 1"):
        run_local(0, 1, [])


def test_python_without_recjax_is_told_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"\.venv/bin/python -m launch local"):
        run_local(2, 4, ["--config=c", f"--workdir={tmp_path / 'w'}"])
    assert list(tmp_path.iterdir()) == []


def test_environment_of_one_and_of_several() -> None:
    alone, two = environment_of(1, 4), environment_of(2, 4)
    assert alone["RECJAX_DIST"] == "off" and "RECJAX_COORDINATOR" not in alone
    assert two["RECJAX_EXPECT_DEVICES"] == "8" and two["RECJAX_NUM_PROCESSES"] == "2"


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((42, 42), 42), ((134, 137), 137), ((134, 1), 1), ((2, 2), 2)]
)
def test_code_that_says_most_is_given(codes, code) -> None:
    assert summarise(codes) == code


def local(
    config: str,
    workdir: Path,
    shape: tuple[int, int],
    words: list[str],
    stages: str = "pretrain",
    heartbeat: int = 100,
):
    options = [f"--processes={shape[0]}", f"--devices={shape[1]}"]
    program = [f"--config={config}", f"--workdir={workdir}", f"--stages={stages}", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "launch", "local", *options, "--", *program],
        cwd=ROOT,
        env={**os.environ, "RECJAX_HEARTBEAT_SECONDS": str(heartbeat)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process) -> tuple[int, str]:
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out


def logs_of(workdir: Path) -> str:
    """What the workers said: the launcher shows the first one's log only."""
    paths = sorted(Path(f"{workdir}.launch").glob("worker-*/log"))
    return "\n".join(f"---- {path.parent.name}\n{path.read_text()[-4000:]}" for path in paths)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Makes, once a config, the work directory of all that comes before training."""
    made: dict[str, Path] = {}

    def prepare(config: str) -> Path:
        if config not in made:
            folder = tmp_path_factory.mktemp("local") / "prepared"
            code, out = finish(local(config, folder, (1, 1), [], "prepare,features,expand"))
            assert code == 0, out
            made[config] = folder
        return made[config]

    return prepare


def rows_of(workdir: Path) -> list[list[dict]]:
    return [read_metrics(workdir / f"pretrain/{arm}/metrics.jsonl") for arm in ARMS]


def train(config: str, workdir: Path, shape: tuple[int, int], words: list[str]) -> list[list[dict]]:
    """Trains to the end; returns the rows of both arms."""
    code, out = finish(local(config, workdir, shape, words))
    assert code == 0, out + logs_of(workdir)
    assert f"exit codes{' 0' * shape[0]};" in out
    return rows_of(workdir)


def copied(prepared: Path, workdir: Path) -> Path:
    return Path(shutil.copytree(prepared, workdir))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_losses_of_the_quickstart_are_those_of_one_process_on_one_device(
    prepared, tmp_path
) -> None:
    before = prepared(QUICKSTART)
    expected = train(QUICKSTART, copied(before, tmp_path / "one"), (1, 1), SHORT)
    assert all(len({row["step"] for row in rows}) == 20 for rows in expected)
    for shape in ((2, 4), (4, 2)):
        workdir = copied(before, tmp_path / f"{shape[0]}")
        found = train(QUICKSTART, workdir, shape, SHORT)
        for mine, other in zip(sum(found, []), sum(expected, []), strict=True):
            assert mine.keys() == other.keys()
            for name, value in mine.items():  # a rank that flips moves a metric by a hit
                apart = 2e-3 if name.startswith("eval/") else 1e-5
                np.testing.assert_allclose(value, other[name], atol=apart, err_msg=str(other))
        progress = json.loads((workdir / "progress.json").read_text())
        assert progress["state"] == "done" and progress["attempt"] == 2 and progress["revision"]


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> list[list[dict]]:
    workdir = copied(prepared(SMOKE), tmp_path_factory.mktemp("undisturbed") / "run")
    return train(SMOKE, workdir, (2, 2), LONG)


def started(before: Path, workdir: Path, **options):
    """A run of two processes that is well under way in its first training."""
    process = local(SMOKE, copied(before, workdir), (2, 2), LONG, **options)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while max((row["step"] for row in rows_of(workdir)[0]), default=0) < 14:
        assert process.poll() is None and time.monotonic() < deadline, logs_of(workdir)
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stop_of_the_launcher_saves_the_same_step_on_all(prepared, undisturbed, tmp_path) -> None:
    workdir = tmp_path / "run"
    process = started(prepared(SMOKE), workdir)
    process.send_signal(signal.SIGTERM)  # handed on to one of the two
    code, out = finish(process)
    assert code == 42 and "exit codes 42 42" in out, out + logs_of(workdir)
    assert json.loads((workdir / "progress.json").read_text())["state"] == "interrupted"
    assert train(SMOKE, workdir, (2, 2), LONG) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_worker_that_dies_ends_the_others_and_the_run_goes_on(
    prepared, undisturbed, tmp_path
) -> None:
    workdir = tmp_path / "run"
    process = started(prepared(SMOKE), workdir, heartbeat=HEARTBEAT_SECONDS)
    keeper = int(Path(f"{workdir}.launch/worker-1/pid").read_text())
    children = subprocess.run(["pgrep", "-P", str(keeper)], capture_output=True, text=True).stdout
    os.kill(int(children.split()[0]), signal.SIGKILL)
    killed = time.time()
    code, out = finish(process)
    assert code == 137 and "exit codes 134 137" in out, out + logs_of(workdir)
    ended = Path(f"{workdir}.launch/worker-0/exit_code").stat().st_mtime
    assert ended - killed < HEARTBEAT_SECONDS + LOAD_SECONDS
    assert train(SMOKE, workdir, (2, 2), LONG) == undisturbed
