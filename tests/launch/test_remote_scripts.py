"""The scripts of a worker: detached runs, their exit codes, their end."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

REMOTE = Path(__file__).resolve().parents[2] / "launch/remote"
SAVES = 'trap "sleep 0.2; echo saved; exit 42" TERM; echo up; while :; do sleep 0.05; done'


def call(script: str, *words: object, **environment: str) -> str:
    done = subprocess.run(
        ["bash", REMOTE / script, *map(str, words)],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(path: Path, text: str = "") -> str:
    deadline = time.monotonic() + 20
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
    return path.read_text()


def is_alive(pid: int) -> bool:
    """A process that has ended may wait for a while to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start(folder: Path, program: str, **environment: str) -> int:
    said = call("run.sh", "start", folder, "bash", "-c", program, **environment)
    assert said.startswith("recjax: started ")
    return int(said.split()[-1])


@pytest.mark.parametrize(("ends", "code"), [(0, "0"), (7, "7"), (42, "42"), (255, "254")])
def test_exit_code_is_kept_and_never_255(tmp_path: Path, ends: int, code: str) -> None:
    start(tmp_path, f"echo here; exit {ends}")
    assert wait_for(tmp_path / "exit_code") == f"{code}\n"
    assert (tmp_path / "log").read_text() == "here\n"
    assert call("status.sh", tmp_path, tmp_path).startswith(f"recjax-worker exited {code} ")


def test_program_killed_by_a_signal_ends_with_128_and_its_number(tmp_path: Path) -> None:
    start(tmp_path, "kill -ABRT $$")
    assert wait_for(tmp_path / "exit_code") == "134\n"


def test_stop_lets_the_program_save(tmp_path: Path) -> None:
    start(tmp_path, SAVES)
    wait_for(tmp_path / "log", "up")
    assert call("status.sh", tmp_path, tmp_path).startswith("recjax-worker running - ")
    assert call("stop.sh", tmp_path, 20) == "recjax: stopped 42\n"
    assert "saved" in (tmp_path / "log").read_text()
    assert call("stop.sh", tmp_path, 20) == "recjax: stopped 42\n"


def test_program_that_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    start(tmp_path, "trap '' TERM; sleep 300 & echo $!; wait; wait; sleep 300")
    child = int(wait_for(tmp_path / "log", "\n"))
    assert call("stop.sh", tmp_path, 0) == "recjax: stopped 137\n"
    deadline = time.monotonic() + 20
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_second_start_leaves_a_living_run_alone(tmp_path: Path) -> None:
    pid = start(tmp_path, SAVES)
    assert call("run.sh", "start", tmp_path, "false") == f"recjax: running {pid}\n"
    call("stop.sh", tmp_path, 20)
    start(tmp_path, "true")
    assert wait_for(tmp_path / "exit_code") == "0\n"
    (old,) = tmp_path.glob("log.*")
    assert "up" in old.read_text(), "logs of earlier runs are kept"


def test_run_whose_keeper_is_gone_is_lost(tmp_path: Path) -> None:
    pid = start(tmp_path, SAVES)
    os.killpg(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert call("status.sh", tmp_path, tmp_path).startswith("recjax-worker lost - ")
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")  # the number went to somebody else
    assert call("status.sh", tmp_path, tmp_path).startswith("recjax-worker lost - ")


def test_folder_without_a_run_has_none(tmp_path: Path) -> None:
    assert call("status.sh", tmp_path / "x", tmp_path) == "recjax-worker none - - 0\n"
    assert call("stop.sh", tmp_path / "x", 1) == "recjax: stopped -\n"


def test_status_tells_progress_and_a_broken_tpu(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text('{"step": 5,\n "note": "two  words"}\n')
    start(tmp_path, "echo RuntimeError: Unable to initialize backend 'tpu'; exit 1")
    wait_for(tmp_path / "exit_code")
    worker, progress = call("status.sh", tmp_path, tmp_path).splitlines()
    assert worker.startswith("recjax-worker exited 1 ") and worker.endswith(" 1")
    assert progress.startswith("recjax-progress ") and '"two  words"' in progress


def test_age_of_progress_counts_from_the_last_change(tmp_path: Path) -> None:
    path, now = tmp_path / "progress.json", time.time()
    for text, age in ((f'{{"changed": {now - 500},\n "time": {now}}}', 500), ('{"step": 5}', 0)):
        path.write_text(text)
        progress = call("status.sh", tmp_path, tmp_path).splitlines()[1]
        assert age <= int(progress.split()[1]) < age + 60


def test_environment_home_secrets_and_what_follows_a_good_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "secrets").write_text("TOKEN='a b'\n")
    environment = {
        "HOME": str(tmp_path),
        "RECJAX_LOG_FOLDER": "~/logs/1",
        "RECJAX_WORKER": "3",
        "RECJAX_AT_END": f"touch {tmp_path}/after",
        "RECJAX_AT_END_SECONDS": "0",
    }
    words = ("bash", "-c", 'echo "$TOKEN" "$0" "$1"; pwd', "~/data", "--path=~/log")
    call("run.sh", "start", folder, *words, **environment)
    wait_for(tmp_path / "after")
    lines = (tmp_path / "logs/1/worker-3.log").read_text().splitlines()
    assert lines == [f"a b {tmp_path}/data --path={tmp_path}/log", str(REMOTE.parents[1])]
    assert not (folder / "secrets").exists()


def test_new_run_cancels_what_was_to_follow_the_last(tmp_path: Path) -> None:
    environment = {"RECJAX_AT_END": f"touch {tmp_path}/after", "RECJAX_AT_END_SECONDS": "1"}
    start(tmp_path, "true", **environment)
    wait_for(tmp_path / "exit_code")
    start(tmp_path, SAVES)
    time.sleep(1.5)
    assert not (tmp_path / "after").exists()
    assert call("stop.sh", tmp_path, 20) == "recjax: stopped 42\n"


def test_run_that_is_forgotten_leaves_its_log_alone(tmp_path: Path) -> None:
    environment = {"RECJAX_AT_END": f"touch {tmp_path}/after", "RECJAX_AT_END_SECONDS": "1"}
    start(tmp_path, "echo here", **environment)
    wait_for(tmp_path / "exit_code")
    assert call("stop.sh", tmp_path, 1, "forget") == "recjax: stopped 0\n"
    assert call("status.sh", tmp_path, tmp_path) == "recjax-worker none - - 0\n"
    time.sleep(1.5)
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == ["log"]


def test_bad_end_is_followed_by_nothing(tmp_path: Path) -> None:
    environment = {"RECJAX_AT_END": f"touch {tmp_path}/after", "RECJAX_AT_END_SECONDS": "0"}
    start(tmp_path, "exit 3", **environment)
    wait_for(tmp_path / "exit_code")
    time.sleep(0.2)
    assert not (tmp_path / "after").exists()
