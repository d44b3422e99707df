"""`aot`: shipped configs x TPU types through the real TPU compiler, as JSON and a table.

The one file of `launch/` that imports recjax, whose own `--aot` does the work: each compile runs in
a child process with a time limit. It proves that a step compiles, fits and is cut as meant, on a
machine without a TPU; nothing is said of speed or of numbers.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from launch.errors import LaunchError

TYPES = ("v5e-1", "v5e-8", "v5p-8", "v6e-8", "2xv5e-8")
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")
_NOT_ALONE = ("default.py", "expansion_lift.py")  # the base of all; needs an argument
_GIB = 1 << 30
Row = dict[str, Any]


def run_aot(configs: Sequence[str], types: Sequence[str], output: str) -> int:
    """Compiles every config for every type and writes what the compiler said.

    Args:
        configs: config files; none: all that are shipped.
        types: accelerator types, "2xTYPE" for two slices; none: the usual five.
        output: JSON file; "": print only. Rows of other configs and types in it stay.

    Returns:
        0 when every step compiled or was refused for its size, else 1.

    Raises:
        LaunchError: when the TPU compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise LaunchError("aot needs the TPU compiler, libtpu: pip install 'jax[tpu]'")
    rows = []
    for row in compile_all(configs or shipped_configs(), types or TYPES):
        rows.append(row)
        print(f"{row['config']:36} {row['accelerator']:14} {row['verdict']}", flush=True)
        if output:
            write_rows(Path(output), [row])
    return int(any(row["fits"] is None for row in rows))


def shipped_configs() -> list[str]:
    """Returns the config files that can be run as they are."""
    found = sorted(Path("configs").glob("[!_]*.py"))
    return [str(path) for path in found if path.name not in _NOT_ALONE]


def compile_all(configs: Sequence[str], types: Sequence[str]) -> Iterator[Row]:
    """Yields a row of each compile, as soon as it is there."""
    for config in configs:
        for accelerator in types:
            yield compile_one(config, accelerator)


def compile_one(config: str, accelerator: str) -> Row:
    """Compiles the pretraining step of one config for one accelerator type.

    Returns:
        config, accelerator, devices, fits (None: neither fits nor is too large), verdict, seconds
        and, where it fits, peak_gib, usable_gib, flops, collectives, collective_mib.
    """
    from recjax import main, preflight
    from recjax.errors import UserError
    from recjax.parallel.topologies import find_topology

    topology, started = find_topology(accelerator), time.monotonic()
    row: Row = {"config": config, "accelerator": topology.accelerator}
    row["devices"] = topology.num_devices
    try:
        command = main.parse([f"--config={config}", f"--aot={accelerator}"])
        report = preflight.ask_child(command.config, topology)
    except (UserError, RuntimeError) as error:
        message = " ".join(str(error).split())[-300:]
        return {**row, "fits": None, "verdict": f"not compiled: {message}"}
    return {**row, **read_report(report), "seconds": round(time.monotonic() - started, 1)}


def read_report(report: Row) -> Row:
    """Returns what a table says of a report of `recjax.parallel.aot`."""
    if not report["fits"]:
        return {"fits": False, "verdict": f"refused: {report['compiler_says']}"}
    peak, usable = (size / _GIB for size in (report["memory"]["peak"], report["usable_bytes"]))
    moved = report["collectives"].values()
    return {
        "fits": True,
        "verdict": f"fits, {peak:.2f} of {usable:.2f} GiB a chip",
        "peak_gib": round(peak, 3),
        "usable_gib": round(usable, 2),
        "flops": report["flops"],
        "collectives": sum(found["count"] for found in moved),
        "collective_mib": round(sum(found["bytes"] for found in moved) / 2**20, 2),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Puts rows in place of those of the same config and type; beside and renamed."""
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    table = {(row["config"], row["accelerator"]): row for row in [*known, *rows]}
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    record = {
        "command": "python -m launch aot --output launch/aot.json",
        "date": date.today().isoformat(),
        "note": "the pretraining step of each config as shipped, sizes of config.aot, default mesh",
        "versions": versions,
        "rows": [table[key] for key in sorted(table)],
    }
    beside = path.with_suffix(f".{os.getpid()}.partial")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    beside.replace(path)
