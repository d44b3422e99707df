"""`local`: N processes x M CPU devices on this machine, through the same `remote/run.sh` as a pod.

The offline twin: processes meet on loopback, share a work directory, are detached, and leave pid,
log and exit code in `WORKDIR.launch/worker-I`. A stop of this program stops one of them; recjax
then saves the same step on all.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from launch.errors import LaunchError

ROOT = Path(__file__).resolve().parents[1]
_REMOTE = ROOT / "launch/remote"
_POLL_SECONDS = 0.2
_STOP_SECONDS = 120


def run_local(processes: int, devices: int, arguments: Sequence[str]) -> int:
    """Runs recjax.main as several processes and waits for all.

    Args:
        processes: how many.
        devices: CPU devices of each.
        arguments: of recjax.main, with --workdir.

    Returns:
        0 where all ended with 0, else the code that says most: the run's own fault before the rest.

    Raises:
        LaunchError: when the command line is not complete or a process does not start.
    """
    if processes < 1 or devices < 1:
        raise LaunchError("--processes and --devices: give at least 1 each")
    words, workdir = take_workdir(arguments)
    if importlib.util.find_spec("jax") is None:
        raise LaunchError(
            "local runs recjax here: .venv/bin/python -m launch local, or pip install -e ."
        )
    folders = [Path(f"{workdir}.launch", f"worker-{index}") for index in range(processes)]
    environment = environment_of(processes, devices)
    with _stopping(folders):
        for index, folder in enumerate(folders):
            mine = {**environment, "RECJAX_PROCESS_ID": str(index), "RECJAX_WORKER": str(index)}
            program = [sys.executable, "-m", "recjax.main", *words, "--workdir", str(workdir)]
            _start(folder, program, mine)
        codes = _wait(folders)
    print(f"launch: exit codes {' '.join(map(str, codes))}; logs in {workdir}.launch", flush=True)
    return summarise(codes)


def take_workdir(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Splits --workdir off and makes it absolute: the processes start in the root of the code.

    Raises:
        LaunchError: when there is none.
    """
    rest, found, words = [], "", iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name.lstrip("-") == "workdir":
            found = value if equals else next(words, "")
        else:
            rest.append(word)
    if not found:
        raise LaunchError("local needs a work directory: -- --config FILE --workdir FOLDER")
    if "://" in found:
        raise LaunchError(f"--workdir {found}: local keeps it on this machine, give a folder")
    return rest, Path(found).expanduser().resolve()


def environment_of(processes: int, devices: int) -> dict[str, str]:
    """Returns what each process is told; what the caller has set of RECJAX_* stays."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    joined = {
        "RECJAX_DIST": "force",
        "RECJAX_COORDINATOR": address,
        "RECJAX_NUM_PROCESSES": str(processes),
    }
    return {
        **os.environ,
        **(joined if processes > 1 else {"RECJAX_DIST": "off"}),
        "RECJAX_EXPECT_BACKEND": "cpu",
        "RECJAX_EXPECT_DEVICES": str(processes * devices),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }


def summarise(codes: Sequence[int]) -> int:
    """Returns the code that says most of those of all processes."""
    for code in (2, 1, 3):
        if code in codes:
            return code
    return max(codes)


def _start(folder: Path, program: Sequence[str], environment: dict[str, str]) -> None:
    command = ["bash", str(_REMOTE / "run.sh"), "start", str(folder), *program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not done.stdout.startswith("recjax: started"):
        said = (done.stdout + done.stderr).strip()
        raise LaunchError(f"{folder.name}: {said}; stop it: bash launch/remote/stop.sh {folder} 60")


@contextmanager
def _stopping(folders: Sequence[Path]) -> Iterator[None]:
    """Hands a stop on to the last process: that all hear of it is recjax's own work.

    Whatever ends this block, no process is left behind.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        pid = folders[-1] / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stops = [
            subprocess.Popen(
                ["bash", str(_REMOTE / "stop.sh"), str(folder), str(_STOP_SECONDS)],
                stdout=subprocess.DEVNULL,
            )
            for folder in folders
            if folder.exists() and not (folder / "exit_code").exists()
        ]
        for process in stops:
            process.wait()


def _wait(folders: Sequence[Path]) -> list[int]:
    """Returns the exit codes when all have one; shows the first process's log meanwhile."""
    with (folders[0] / "log").open() as log:
        while not all((folder / "exit_code").exists() for folder in folders):
            sys.stdout.write(log.read())
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
        sys.stdout.write(log.read())
    return [int((folder / "exit_code").read_text()) for folder in folders]
