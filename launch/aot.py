"""`aot`: shipped configs x TPU types through the real TPU compiler, as JSON and a table.

The one file of `launch/` that imports recjax, whose own `--aot` does the work: each compile runs in
a child process with a time limit. It proves that a step compiles, fits and is cut as meant, on a
machine without a TPU; nothing is said of speed or of numbers.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import platform
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
Pair = tuple[str, str]  # config, accelerator type


def run_aot(
    configs: Sequence[str],
    types: Sequence[str],
    stages: Sequence[str],
    output: str,
    missing: bool = False,
) -> int:
    """Compiles every config for every type and writes what the compiler said.

    Args:
        configs: config files; none: all that are shipped.
        types: accelerator types, "2xTYPE" for two slices; none: the usual five.
        stages: whose trainings; none: the first stage of each config that trains.
        output: JSON file; "": print only. Rows of other configs and types in it stay.
        missing: leave alone what the file has already.

    Returns:
        0 when every step compiled or was refused for its size, else 1.

    Raises:
        LaunchError: when the TPU compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise LaunchError("aot needs the TPU compiler, libtpu: pip install 'jax[tpu]'")
    failed = False
    known = known_pairs(Path(output)) if missing and output else set()
    for rows in compile_all(configs or shipped_configs(), types or TYPES, stages, known):
        for row in rows:
            where = f"{row['config']:34} {row['training']:26} {row['accelerator']:14}"
            print(f"{where} {row['verdict']}", flush=True)
            failed = failed or row["fits"] is None
        if output:
            write_rows(Path(output), rows)
    return int(failed)


def show_table(path: Path) -> int:
    """Prints the table of a record; compiles nothing."""
    if not path.exists():
        raise LaunchError(f"--output {path}: there is no record to show")
    print("\n".join(table_lines(json.loads(path.read_text()))))
    return 0


def shipped_configs() -> list[str]:
    """Returns the config files that can be run as they are."""
    found = sorted(Path("configs").glob("[!_]*.py"))
    return [str(path) for path in found if path.name not in _NOT_ALONE]


def compile_all(
    configs: Sequence[str], types: Sequence[str], stages: Sequence[str], known: set[Pair]
) -> Iterator[list[Row]]:
    """Yields the rows of each config and type but those known, as soon as they are there."""
    from recjax.parallel.topologies import find_topology

    for accelerator in types:
        for config in configs:
            if (config, find_topology(accelerator).accelerator) not in known:
                yield compile_config(config, accelerator, stages)


def known_pairs(path: Path) -> set[Pair]:
    """Returns config and accelerator type of what a record has."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["config"], row["accelerator"]) for row in rows if row["fits"] is not None}


def compile_config(config: str, accelerator: str, stages: Sequence[str] = ()) -> list[Row]:
    """Compiles the steps of the trainings of one config for one accelerator type.

    Returns:
        For each: config, training ("" where none was compiled), accelerator, devices, fits (None:
        neither fits nor is too large), verdict, seconds of the compile and, where it fits,
        peak_gib, usable_gib, flops, collectives, collective_mib.
    """
    from recjax import main, preflight
    from recjax.errors import UserError
    from recjax.parallel.topologies import find_topology

    topology = find_topology(accelerator)
    row: Row = {"config": config, "training": "", "accelerator": topology.accelerator}
    row["devices"] = topology.num_devices
    try:
        command = main.parse([f"--config={config}", f"--aot={accelerator}"])
        first = "pretrain" if command.config.pretrain.num_steps else "finetune"
        reports = preflight.ask_child(command.config, topology, tuple(stages) or (first,))
    except (UserError, RuntimeError) as error:
        message = " ".join(str(error).split())[-300:]
        return [{**row, "fits": None, "verdict": f"not compiled: {message}"}]
    return [{**row, **read_report(report)} for report in reports]


def read_report(report: Row) -> Row:
    """Returns what a table says of a report of `recjax.parallel.aot`."""
    known = {"training": report["training"], "seconds": round(report["seconds"], 1)}
    if not report["fits"]:
        return {**known, "fits": False, "verdict": f"refused: {report['compiler_says']}"}
    peak, usable = (size / _GIB for size in (report["memory"]["peak"], report["usable_bytes"]))
    moved = report["collectives"].values()
    return {
        **known,
        "fits": True,
        "verdict": f"fits, {peak:.2f} of {usable:.2f} GiB a chip",
        "peak_gib": round(peak, 3),
        "usable_gib": round(usable, 2),
        "flops": report["flops"],
        "collectives": sum(found["count"] for found in moved),
        "collective_mib": round(sum(found["bytes"] for found in moved) / 2**20, 2),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Puts rows in place of all of the same config and type; beside and renamed."""
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    made = {(row["config"], row["accelerator"]) for row in rows}
    kept = [row for row in known if (row["config"], row["accelerator"]) not in made]
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    record = {
        "command": "python -m launch aot --output launch/aot.json",
        "date": date.today().isoformat(),
        "note": "the step of the pretraining of each config as shipped, or without one of the "
        "fine-tuning; sizes of config.aot, default mesh; seconds of lowering and compiling on two "
        "shared CPU cores",
        "versions": versions,
        "rows": sorted([*kept, *rows], key=_place),
    }
    beside = path.with_suffix(f".{os.getpid()}.partial")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    beside.replace(path)


def _place(row: Row) -> tuple[str, ...]:
    """Order in the record: types beside each other."""
    return row["config"], row["training"], row["accelerator"]


def table_lines(record: Row) -> list[str]:
    """Returns the record as a Markdown table: of each config the training that needs most.

    A cell is the peak on one chip in GiB; the last column the seconds of a compile, on average.
    """
    rows = record["rows"]
    types = sorted({row["accelerator"]: row["devices"] for row in rows}.items(), key=_by_size)
    usable = {row["accelerator"]: row["usable_gib"] for row in rows if "usable_gib" in row}
    names = [f"{name}, of {usable.get(name, 0):.2f}" for name, _ in types]
    lines = [f"| config, training | {' | '.join(names)} | s |", "|---" * (len(types) + 2) + "|"]
    for config in sorted({row["config"] for row in rows}):
        mine = [row for row in rows if row["config"] == config]
        largest = max(mine, key=lambda row: row.get("peak_gib", math.inf))["training"]
        shown = {row["accelerator"]: row for row in mine if row["training"] == largest}
        cells = [_cell(shown.get(name)) for name, _ in types]
        seconds = sum(row["seconds"] for row in mine) / len(mine)
        name = config.removeprefix("configs/").removesuffix(".py")
        lines.append(f"| `{name}`, {largest} | {' | '.join(cells)} | {seconds:.0f} |")
    return lines


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{row['peak_gib']:.2f}" if row["fits"] else "refused"


def _by_size(found: tuple[str, int]) -> tuple[int, str]:
    return found[1], found[0]
