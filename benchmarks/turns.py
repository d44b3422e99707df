"""Sides of a comparison that take turns on one and the same core, each a process of its own.

The median turn counts, so that a moment in which the machine was busy elsewhere costs one turn of a
side, not a row. Memory is the peak of the process, compiling included, above what it held once its
libraries were loaded. Freed memory stays in the process on every side, as a run of recjax has it
(`recjax.host_memory`); here by the environment, which holds from the first thread on.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

Step = Callable[[], None]

_KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}


def take_turns(
    sides: Sequence[str],
    work: Any,
    *,
    load: Callable[[str], None],
    make: Callable[[str, Any], Step],
    warm_up: int,
    steps: int,
    rounds: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the median seconds of a step and the peak GiB of memory of each side.

    Args:
        sides: names.
        work: what is measured; pickled.
        load: side -> nothing; loads its libraries. A function of a module, as is `make`.
        make: (side, work) -> a function that takes one step and waits for it.
        warm_up: steps before the first turn, which compile what there is to compile.
        steps: of a turn.
        rounds: turns of each side.
    """
    context, core = multiprocessing.get_context("spawn"), max(os.sched_getaffinity(0))
    os.environ.update(_KEEP_FREED_MEMORY)  # of the processes that start here
    pipes, processes = {}, []
    for side in sides:
        pipes[side], other = context.Pipe()
        arguments = (side, work, load, make, warm_up, core, other)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        processes.append(process)
        other.close()
        assert pipes[side].recv() == "ready"
    turns: dict[str, list[float]] = {side: [] for side in sides}
    peaks = {}
    for _ in range(rounds):
        for side, pipe in pipes.items():
            pipe.send(steps)
            seconds, peaks[side] = pipe.recv()
            turns[side].append(seconds)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(0)
        process.join()
    return {side: statistics.median(turns[side]) for side in sides}, peaks


def _serve(
    side: str,
    work: Any,
    load: Callable[[str], None],
    make: Callable[[str, Any], Step],
    warm_up: int,
    core: int,
    pipe: Connection,
) -> None:
    """Takes as many steps as asked for, again and again; answers seconds a step and peak GiB."""
    os.sched_setaffinity(0, {core})  # before a library counts its threads
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    load(side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = make(side, work)
    for _ in range(warm_up):
        step()
    pipe.send("ready")
    while num_steps := pipe.recv():
        begin = time.perf_counter()
        for _ in range(num_steps):
            step()
        seconds = (time.perf_counter() - begin) / num_steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        pipe.send((seconds, peak / 2**20))
