"""What this machine remembers of a launch: one small JSON file, written before things are done.

Written first and done after: a launcher that is killed between the two counts one restart too many,
never one too few. `down` and a finished launch close the history; the next one starts afresh.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from launch.errors import LaunchError
from launch.machine import Past

try:
    import fcntl
except ImportError:  # Windows: two watchers of one launch are then the user's own care
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Record:
    """What the file holds; times in seconds since 1970, 0: never."""

    first_asked_at: float = 0.0  # for a TPU
    asked_at: float = 0.0  # since when we wait for one; 0: we have it
    paid_since: float = 0.0  # it was there for the first time
    started_at: float = 0.0  # the run, the last time
    restarts: int = 0
    device_failures: int = 0
    zone: int = 0  # which of spec.zones is asked next
    closed: str = ""  # why the launch is over


class History:
    """The file of one launch."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.json"

    def read(self) -> Record:
        """Returns what is remembered; an empty record where there is nothing."""
        if not self.path.exists():
            return Record()
        return Record(**json.loads(self.path.read_text()))

    def open(self) -> Record:
        """Returns what is remembered of a launch that goes on, or begins one."""
        record = self.read()
        return self.write(Record()) if record.closed else record

    def change(self, **values: object) -> Record:
        """Changes what is remembered."""
        return self.write(replace(self.read(), **values))  # type: ignore[arg-type]

    def write(self, record: Record) -> Record:
        """Writes beside and renames."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.partial")
        beside.write_text(json.dumps(asdict(record), indent=1) + "\n")
        beside.replace(self.path)
        return record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second launcher of this name out.

        Raises:
            LaunchError: when there is one.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    message = f"another launcher is at work on {self.path.stem}"
                    raise LaunchError(message) from error
            yield


def past_of(record: Record, unreachable_since: float, progress_time: float, state: str) -> Past:
    """Returns what the state machine asks of the past.

    Args:
        record: what is remembered.
        unreachable_since: when a worker stopped answering, 0: all answer.
        progress_time: when progress.json was written.
        state: what it says.
    """
    now = time.time()
    return Past(
        has_started=bool(record.started_at),
        is_recreation=bool(record.paid_since) and not record.asked_at,
        restarts=record.restarts,
        device_failures=record.device_failures,
        waited_seconds=now - record.asked_at if record.asked_at else 0.0,
        paid_seconds=now - record.paid_since if record.paid_since else 0.0,
        unreachable_seconds=now - unreachable_since if unreachable_since else 0.0,
        finished=state == "done" and 0 < record.started_at < progress_time,
    )
