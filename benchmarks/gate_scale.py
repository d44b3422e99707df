"""Ten million synthetic users through the gate: users a second and the peak memory.

    python benchmarks/gate_scale.py [--quick] [--output FILE] [--users N] [--items V] [--real N]
        [--settings NAME ...]

Users are made while they are read: lengths geometric with mean 8, at least 2; items Zipf within a
shift of the catalogue, 64 tastes. Each row is a process of its own, so that its peak memory, Python
and JAX included, is that of one gate. Settings: `default`, as configs/default.py has them, without
a likelihood band; `exact`, without near copies; `quotas`, with those of categories on; `making`, no
gate at all: what making the users costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Row, make_parser, write_record

from configs.default import get_config
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.expansion import GateConfig, build_reference, run_gate
from recjax.expansion.gate.run import DRAW_SIZE
from recjax.expansion.records import Record

MEAN_LENGTH, TASTES, CATEGORIES = 8, 64, 100
SETTINGS = {
    "making": {},
    "default": {},
    "exact": {"near_duplicate_jaccard": 0.0},
    "quotas": {"category_floor": 0.5, "category_cap": 2.0, "cross_category_quota": 0.9},
}


class Users:
    """Endless users in batches; a batch depends on the number of its first row alone."""

    def __init__(self, seed: int, num_items: int) -> None:
        self._seed, self._num_items = seed, num_items
        self._share = np.cumsum(1.0 / np.arange(1, num_items + 1))
        self._share /= self._share[-1]

    def __call__(self, first: int, n: int) -> Sequence[Record]:
        """Returns users first..first + n - 1."""
        rng = np.random.default_rng([self._seed, first])
        ends = np.cumsum(1 + rng.geometric(1 / (MEAN_LENGTH - 1), n))
        ranks = np.searchsorted(self._share, rng.random(ends[-1], np.float32))
        starts = np.concatenate([[0], ends[:-1]])
        shift = rng.integers(TASTES, size=n) * (self._num_items // TASTES)
        items = (ranks + np.repeat(shift, ends - starts)) % self._num_items + NUM_SPECIALS
        items, none = items.astype(np.int32), np.zeros(int((ends - starts).max()), np.int32)
        times, weight = np.arange(len(none), dtype=np.int64), np.float32(1.0)
        return [
            {
                "user": -1 if self._seed else first + row,
                "items": items[start:end],
                "actions": none[: end - start],
                "times": times[: end - start],
                "sessions": none[: end - start],
                "weight": weight,
                "source": self._seed,
            }
            for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
        ]

    def stream(self, count: int) -> Iterator[Record]:
        """Yields the first `count` users."""
        for first in range(0, count, DRAW_SIZE):
            yield from self(first, min(DRAW_SIZE, count - first))


def measure(arguments: argparse.Namespace, name: str) -> Row:
    """Returns the row of one kind of settings."""
    config = replace(GateConfig(**get_config().expansion.gate), **SETTINGS[name])
    vocab_size = arguments.items + NUM_SPECIALS
    category = np.where(np.arange(vocab_size) < NUM_SPECIALS, 0, np.arange(vocab_size) % CATEGORIES)
    before = _peak_gib()
    reference = build_reference(
        Users(0, arguments.items).stream(arguments.real),
        config,
        vocab_size=vocab_size,
        num_actions=1,
        category_of_item=category,
    )
    with_real = _peak_gib()
    draws = Users(1, arguments.items)
    start, cpu_start = time.perf_counter(), time.process_time()
    if name == "making":
        drawn = kept = sum(1 for _ in draws.stream(arguments.users))
        events, missed = sum(len(r["items"]) for r in draws(0, DRAW_SIZE)) / DRAW_SIZE * kept, {}
    else:
        records, counts = run_gate(draws, arguments.users, config, reference)
        kept = sum(1 for _ in records)
        drawn, events, missed = counts.drawn, counts.events, counts.quotas_missed
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "settings": name,
        "real_users": arguments.real,
        "items": arguments.items,
        "wanted": arguments.users,
        "drawn": drawn,
        "kept": kept,
        "mean_events": events / kept,
        "blocks_that_missed_a_quota": sum(missed.values()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # on a machine that others use too, less than the seconds
        "drawn_users_per_second": drawn / seconds,
        "drawn_users_per_cpu_second": drawn / cpu_seconds,
        "gib_before": before,
        "gib_with_real_users": with_real,
        "peak_gib": _peak_gib(),
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_apart(arguments: argparse.Namespace, name: str) -> Row:
    """Returns the row that a process of its own measures."""
    command = [sys.executable, __file__, "--only", name]
    for size in ("users", "items", "real"):
        command += [f"--{size}", str(getattr(arguments, size))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    print(row, flush=True)
    return row


def main() -> None:
    """Measures and writes the record."""
    parser = make_parser(__doc__)
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--real", type=int, default=200_000)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default"])
    parser.add_argument("--only", choices=SETTINGS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.users, arguments.items, arguments.real = 20_000, 5_000, 5_000
        arguments.settings = list(SETTINGS)
    if arguments.only:
        print(json.dumps(measure(arguments, arguments.only)))
        return
    rows = [measure_apart(arguments, name) for name in arguments.settings]
    write_record("gate_scale", rows, arguments)


if __name__ == "__main__":
    main()
