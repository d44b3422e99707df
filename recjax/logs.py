"""What a run says while it works: progress.json, the terminal, rows of numbers, TensorBoard events.

`Progress` is for people and watchers, `MetricWriter` for curves. Nothing here touches the device.
Of several processes only number 0 leaves anything on disk.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from recjax import distributed
from recjax.errors import UserError
from recjax.workdir import Workdir, read_json, write_json

_WRITE_SECONDS = 2.0  # progress.json at most this often, and at every stage border
_PLAIN_SECONDS = 15.0  # without a terminal, a line at most this often
_ALIVE_SECONDS = 20.0  # progress.json at least this often, whatever takes long


class Progress:
    """Shows stage, step, rate and time left; keeps progress.json fresh for a watcher.

    There `time` says when the program was seen alive, `changed` when it last had something to say:
    a watcher tells a dead run from a stuck one.

    Args:
        workdir: of the run; progress.json there counts its attempts.
        console: where a person looks.
        revision: of the code that runs.
    """

    def __init__(self, workdir: Workdir, console: Console, revision: str = "") -> None:
        self._path = workdir / "progress.json"
        self.console = console
        previous = json.loads(self._path.read_text()) if self._path.exists() else {}
        attempt = previous.get("attempt", 0) + 1
        self._run: dict[str, Any] = {"attempt": attempt, "revision": revision}
        self._facts = dict(self._run)
        self._changed, self._lock = time.time(), threading.Lock()
        self._written = self._printed = 0.0
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Writes progress.json now and then while the block runs, however long its steps are."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_ALIVE_SECONDS):
                with suppress(OSError):  # the run itself will meet a full disk, and say so
                    self._write()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stage(self, name: str) -> None:
        """Announces a stage."""
        self.close()
        self._facts = dict(self._run)
        self.console.print(f"[bold]{name}[/bold]")
        self._change(stage=name, step=0)
        self._write()

    def say(self, text: str) -> None:
        """Prints a line and notes that the run is alive."""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)
        self._change(note=text)
        self._write()

    def update(self, label: str, step: int, total: int, **values: float) -> None:
        """Notes a step; cheap enough to call at every one."""
        self._change(label=label, step=step, total_steps=total, **values)
        now = time.monotonic()
        if now - self._written >= _WRITE_SECONDS:
            self._write()
        if self.console.is_terminal:
            self._show_bar(label, step, total, values)
        elif now - self._printed >= _PLAIN_SECONDS:
            self._printed = now
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.console.print(f"  {label}: {step}/{total}  {numbers}", highlight=False)

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task = None, None

    def finish(self, state: str) -> None:
        """Writes how the run ended ("done", "interrupted", "failed")."""
        self.close()
        self._change(state=state)
        self._write()

    def _show_bar(self, label: str, step: int, total: int, values: Mapping[str, float]) -> None:
        if self._bar is None:
            self._bar = RichProgress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(label, total=total, numbers="", rate="")
        assert self._task is not None
        task = self._bar.tasks[0]
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        rate = f"{task.speed:.1f}/s" if task.speed else ""
        self._bar.update(
            self._task, description=label, completed=step, total=total, numbers=numbers, rate=rate
        )

    def _change(self, **facts: Any) -> None:
        self._facts, self._changed = {**self._facts, **facts}, time.time()

    def _write(self) -> None:
        self._written = time.monotonic()
        if not distributed.is_main():
            return
        with self._lock:
            told = {"state": "running", **self._facts, "changed": self._changed}
            write_json(self._path, {**told, "time": time.time()})


class MetricWriter:
    """Writes metrics.jsonl, the same in every run, and timings.jsonl, which no two runs share.

    Args:
        folder: of the training.
        first_step: rows of later steps are dropped; they will be run again.
        label: name of the training.
        tensorboard: whether all goes to TensorBoard events too.
        wandb_project: whether all goes to this project of Weights & Biases too; "": no.
    """

    def __init__(
        self, folder: Path, first_step: int, label: str, tensorboard: bool, wandb_project: str
    ) -> None:
        main = distributed.is_main()
        self._metrics = _RowFile(folder / "metrics.jsonl", first_step)
        self._timings = _RowFile(folder / "timings.jsonl", first_step)
        self._events = _event_writer(folder) if main and tensorboard else None
        self._run = _wandb_run(folder, wandb_project, label) if main and wandb_project else None

    def write(self, step: int, seed: int, values: Mapping[str, float]) -> None:
        """Writes one row of a seed; metric names are paths such as train/loss."""
        values = {name: float(value) for name, value in values.items()}
        self._metrics.append({"step": step, "seed": seed, **values})
        self._show({f"{name}/seed_{seed}": value for name, value in values.items()}, step)

    def write_timings(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row of wall-clock figures of all seeds, such as time/step_seconds."""
        self._timings.append({"step": step, **values})
        self._show(values, step)

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._timings.close()
        if self._events is not None:
            self._events.close()
        if self._run is not None:
            self._run.finish()

    def _show(self, values: Mapping[str, float], step: int) -> None:
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        if self._run is not None:
            self._run.log(dict(values), step=step)


class _RowFile:
    """Appends JSON rows to a file.

    On resume, rows of steps that will be run again are dropped first, so that a curve never
    doubles back.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        if not distributed.is_main():
            self._file = open(os.devnull, "w")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(path) if row["step"] <= first_step]
        beside = path.with_suffix(".partial")
        beside.write_text("".join(json.dumps(row) + "\n" for row in kept))
        beside.replace(path)
        self._file = path.open("a")

    def append(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl or timings.jsonl; a line cut off by a kill is skipped."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def import_wandb() -> Any:
    """Returns the package of Weights & Biases.

    Raises:
        UserError: when it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "config.logging.wandb_project is set, but Weights & Biases is not installed: "
            "pip install 'recjax[wandb]'"
        ) from error
    return wandb


def _wandb_run(folder: Path, project: str, label: str) -> Any:
    """Opens the training's run; a resumed training goes on with its own."""
    path = folder / "wandb_run.json"
    known = read_json(path)["id"] if path.exists() else None
    run = import_wandb().init(
        project=project, name=label, id=known, resume="allow", dir=str(folder)
    )
    write_json(path, {"id": run.id})
    return run


def _event_writer(folder: Path) -> Any:
    from tensorboardX import SummaryWriter  # loads protobuf; only where events are wanted

    return SummaryWriter(str(folder))
