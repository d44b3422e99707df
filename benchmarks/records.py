"""How a benchmark writes what it measured: a JSON file with command, machine, versions and rows."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "flax", "optax")


def make_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=(docstring or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; ends within a minute")
    parser.add_argument(
        "--output", type=Path, help="JSON file; default: results/ beside the program"
    )
    return parser


def write_record(
    name: str,
    rows: list[Row],
    arguments: argparse.Namespace,
    versions: dict[str, str] | None = None,
    note: str = "",
) -> Path:
    """Writes rows to the file asked for; a quick run without --output writes no result.

    `versions` are those of programs that do not live in this Python; `note` is what a reader must
    know of how the rows came about.
    """
    record = {
        "command": shlex.join(["python", f"benchmarks/{name}.py", *map(_public, sys.argv[1:])]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "git": _git_revision(),
        "hardware": _hardware(),
        "versions": _versions() | (versions or {}),
        **({"note": note} if note else {}),
        "rows": rows,
    }
    output = arguments.output or _RESULTS / f"{name}.json"
    if arguments.quick and arguments.output is None:
        print("quick run: no result file written (name one with --output)")
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_suffix(".partial")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    beside.replace(output)
    print(f"wrote {output}")
    return output


def median_seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """Returns the median wall time of calls, the first (which compiles) not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _public(argument: str) -> str:
    """An argument without the folders of this machine."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _git_revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=_RESULTS.parent)
    return found.stdout.strip() or "unknown"


def _hardware() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        model = next(lines, f": {model}").partition(":")[2].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GiB"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
