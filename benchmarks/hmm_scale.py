"""A log that fits no array: stepwise EM and drawing for one million users, with the peak memory.

    python benchmarks/hmm_scale.py [--quick] [--output FILE] [--users N] [--items V] [--states K]

Users are made while they are read (20 events each, tastes in 64 groups), so nothing but the model
and a few batches is ever held. Rows: counting items, one pass of stepwise EM, making the tables,
drawing as many users as were read; each with seconds, events per second and the peak memory of the
process so far.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from records import Row, make_parser, write_record

from recjax import hmm

LENGTH, GROUPS, BATCH = 20, 64, 16_384


def make_users(num_users: int, num_items: int) -> Iterator[hmm.Events]:
    """Yields batches of users whose items are Zipf within a shift of the catalogue."""
    share = np.cumsum(1.0 / np.arange(1, num_items + 1))
    share /= share[-1]
    for first in range(0, num_users, BATCH):
        rng = np.random.default_rng(first)
        size = min(BATCH, num_users - first)
        ranks = np.searchsorted(share, rng.random((size, LENGTH), np.float32))
        shift = rng.integers(GROUPS, size=(size, 1)) * (num_items // GROUPS)
        items = ((ranks + shift) % num_items).astype(np.int32)
        nothing = np.zeros_like(items)
        yield hmm.Events(items, nothing, nothing, np.full(size, LENGTH, np.int32))


class Clock:
    """Times the parts of a run and notes the peak memory after each."""

    def __init__(self, arguments: argparse.Namespace):
        self.rows: list[Row] = []
        self._sizes = {name: getattr(arguments, name) for name in ("users", "items", "states")}

    def time(self, work: str, run: Callable[[], Any], num_events: int) -> Any:
        """Runs a part once and adds its row."""
        start = time.perf_counter()
        result = jax.block_until_ready(run())
        seconds = time.perf_counter() - start
        row = {"work": work, **self._sizes, "events": num_events, "seconds": seconds}
        row["events_per_second"] = num_events / seconds
        row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.rows.append(row)
        print(row, flush=True)
        return result


def run_all(arguments: argparse.Namespace) -> list[Row]:
    """Every row of the record."""
    users, items, num_events = arguments.users, arguments.items, arguments.users * LENGTH
    clock = Clock(arguments)

    def batches() -> Iterator[hmm.Events]:
        return make_users(users, items)

    def count() -> np.ndarray:
        return sum(np.bincount(b.items.reshape(-1), minlength=items) for b in batches())

    popularity = clock.time("make and count", count, num_events)
    settings = hmm.HmmSettings(
        num_states=arguments.states, num_iterations=1, tolerance=0.0, kernel_window=1,
        kernel_neighbours=1, kernel_backward=0.0, kernel_damping=0.0, smoothing=0.01,
    )  # fmt: skip
    params, history = clock.time(
        "stepwise EM, one pass, users made on the way",
        lambda: hmm.fit_stepwise(
            jax.random.key(0), batches, hmm.HmmSizes(items), settings, popularity=popularity
        ),
        num_events,
    )
    clock.rows[-1]["log_likelihood_per_event"] = history[-1]["log_likelihood"]
    tables = clock.time("tables", lambda: hmm.make_tables(params), num_events)

    def draw() -> int:
        drawn = []
        for first in range(0, users, BATCH):
            rows = jnp.arange(BATCH, dtype=jnp.int32) + first
            drawn.append(hmm.draw_users(jax.random.key(1), tables, rows, max_len=64)[0].lengths)
        return int(sum(lengths.sum() for lengths in jax.device_get(drawn)))

    num_drawn = clock.time("draw users, with stop", draw, num_events)
    last = clock.rows[-1]
    last["events"], last["events_per_second"] = num_drawn, num_drawn / last["seconds"]
    return clock.rows


def main() -> None:
    """Measures and writes the record."""
    parser = make_parser(__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--states", type=int, default=64)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.users, arguments.items, arguments.states = 50_000, 5_000, 16
    write_record("hmm_scale", run_all(arguments), arguments)


if __name__ == "__main__":
    main()
