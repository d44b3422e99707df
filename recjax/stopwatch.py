"""Where the wall time of training steps goes: waiting for data, the host's own work, the devices.

The host is not made to wait for the devices at each step: a window of steps ends where the loop
reads its metrics anyway, and what is left of the window is the devices'. Evaluations, saves and the
first step with its compile are no part of it. Called by `train` only.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from recjax.parallel.hardware import peak_flops, peak_memory_gib

Batch = Mapping[str, np.ndarray]
Row = dict[str, float]

_AVERAGED = {  # name in a summary: name in a row, a share or rate of the window's seconds
    "data_wait_share": "time/data_wait_share",
    "device_wait_share": "time/device_wait_share",
    "host_share": "time/host_share",
    "examples_per_second": "throughput/examples_per_second",
    "tokens_per_second": "throughput/tokens_per_second",
    "model_flops_utilisation": "throughput/model_flops_utilisation",
}
TIMINGS = ("step_seconds", *_AVERAGED)  # what `summarise` gives


@dataclass
class _Window:
    """Sums over some steps; seconds are wall seconds."""

    steps: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0
    device_wait: float = 0.0
    host: float = 0.0
    examples: int = 0
    tokens: int = 0


class Stopwatch:
    """Times the steps of one training.

    Args:
        flops: batch -> operations of a step on it; asked once.
        devices: all that take part in a step.
    """

    def __init__(self, flops: Callable[[Batch], float], devices: Sequence[Any]) -> None:
        self._flops, self._peak = flops, peak_flops(devices)
        self._step_flops = 0.0
        self._first_step: float | None = None
        self._newest: Any = None  # metrics of the step dispatched last
        self._window = _Window()
        self._since = time.perf_counter()

    @contextmanager
    def data(self) -> Iterator[None]:
        """Times the wait for a batch.

        The devices wait too if by its end they have finished every step: an upper bound, since
        they may have finished just before.
        """
        started = time.perf_counter()
        yield
        waited = time.perf_counter() - started
        self._window.data_wait += waited
        if self._newest is not None and self._newest.is_ready():
            self._window.device_wait += waited

    @contextmanager
    def host(self) -> Iterator[None]:
        """Times put and dispatch; where a backend computes in the dispatch, that too."""
        started = time.perf_counter()
        yield
        self._window.host += time.perf_counter() - started

    def count(self, batch: Batch, metrics: Mapping[str, jax.Array]) -> None:
        """Notes a dispatched step: the host batch [M, B, ...] and what the step returned."""
        self._newest = metrics["train/loss"]
        if self._first_step is None:
            self._first_step = self._restart().seconds
            self._step_flops = self._flops(batch) if self._peak else 0.0
            self._since = time.perf_counter()
            return
        self._window.steps += 1
        self._window.examples += num_examples(batch)
        self._window.tokens += num_tokens(batch)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what is done inside; waits for the devices first, as evaluations do."""
        self._stop()
        yield
        self._since = time.perf_counter()

    def read(self) -> Row:
        """Ends the window and returns its row; waits for the devices."""
        window, first = self._restart(), self._first_step
        row = {"memory/peak_gib": peak_memory_gib(), "time/steps": float(window.steps)}
        if first is not None:
            row["time/first_step_seconds"] = first
        if not window.steps:
            return row
        seconds, processes = window.seconds, jax.process_count()
        row |= {
            "time/step_seconds": seconds / window.steps,
            "time/data_wait_share": window.data_wait / seconds,
            "time/device_wait_share": window.device_wait / seconds,
            "time/host_share": window.host / seconds,
            "time/device_share": 1 - (window.data_wait + window.host) / seconds,
            "throughput/examples_per_second": processes * window.examples / seconds,
            "throughput/tokens_per_second": processes * window.tokens / seconds,
        }
        if self._peak:
            done = processes * self._step_flops * window.steps / seconds
            row["throughput/model_flops_utilisation"] = done / self._peak
        return row

    def _stop(self) -> None:
        if self._newest is not None:
            self._newest.block_until_ready()
        self._window.seconds += time.perf_counter() - self._since

    def _restart(self) -> _Window:
        self._stop()
        ended, self._window = self._window, _Window()
        self._since = time.perf_counter()
        return ended


def num_examples(batch: Batch) -> int:
    """Counts users where rows are packed (`segments` [M, B, T] numbers them), else rows [M, B]."""
    if "segments" in batch:
        return int(np.maximum(batch["segments"].max(axis=-1), 1).sum())
    return int(np.prod(next(iter(batch.values())).shape[:2]))


def num_tokens(batch: Batch) -> int:
    """Counts events, padding left out; 0 for batches without `segments`."""
    return int(np.count_nonzero(batch["segments"])) if "segments" in batch else 0


def summarise(rows: Sequence[Row]) -> Row:
    """Returns the means over windows, each weighted by its seconds; {} without any step.

    Args:
        rows: of `Stopwatch.read`, of one training or several.
    """
    rows = [row for row in rows if row["time/steps"]]
    if not rows:
        return {}
    steps = np.array([row["time/steps"] for row in rows])
    seconds = steps * [row["time/step_seconds"] for row in rows]
    found = {"step_seconds": float(seconds.sum() / steps.sum())}
    for name, column in _AVERAGED.items():
        if all(column in row for row in rows):
            values = np.array([row[column] for row in rows])
            found[name] = float(seconds @ values / seconds.sum())
    return found
