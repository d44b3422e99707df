"""`--aot v5e-8`: compiles the real training steps of a config for a TPU, in a child process.

The parent asks, the child answers in JSON: the TPU compiler may end its process, and a compile may
take too long. Nothing is allocated and no log is read: the sizes of the data come from
`config.aot`. The child is `python -m recjax.preflight`, the request on its standard input, a line
of the answer for each training.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from recjax.errors import UserError
from recjax.parallel.aot import ENVIRONMENT, Report, compile_report, topology_devices
from recjax.parallel.topologies import Topology, find_topology
from recjax.planned import find_sizes, lower_training, plan_trainings

_GIB = 1 << 30


def run(config: ConfigDict, accelerator: str, stages: tuple[str, ...], console: Console) -> None:
    """Compiles the trainings of these stages for an accelerator type and prints the reports.

    Raises:
        UserError: when the type is unknown, libtpu is missing, the config is wrong or trains
            nothing, the compiles take too long, or a step does not fit (with the compiler's own
            figure).
    """
    topology = find_topology(accelerator)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("--aot needs the TPU compiler, libtpu: pip install 'jax[tpu]'")
    reports = ask_child(config, topology, stages)
    for report in reports:
        if report["fits"]:
            print_report(report, console)
    refused = [f"{r['training']}: {r['compiler_says']}" for r in reports if not r["fits"]]
    if refused:
        raise UserError(f"does not fit on {topology.accelerator}: {'; '.join(refused)}")
    console.print("Loop bodies count once. Compiled, not run: nothing is said of speed or numbers.")


def ask_child(config: ConfigDict, topology: Topology, stages: tuple[str, ...]) -> list[Report]:
    """Runs the compiles in a child process; returns a report for each training.

    Raises:
        UserError: what the child says of the config, or that its time is up.
        RuntimeError: when the child ends without its answers; with the end of what it wrote.
    """
    request = {
        "config": config.to_dict(),
        "accelerator": topology.accelerator,
        "stages": stages,
    }
    seconds = config.aot.timeout_seconds
    try:
        child = subprocess.run(
            [sys.executable, "-m", "recjax.preflight"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": _python_path()},
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"the compiles took longer than config.aot.timeout_seconds = {seconds}"
        ) from error
    if child.returncode:
        raise RuntimeError(
            f"the TPU compiler ended with {child.returncode}: {child.stderr[-3000:]}"
        )
    lines = [line for line in child.stdout.splitlines() if line.startswith("{")]
    answers: list[Report] = [json.loads(line) for line in lines]
    for answer in answers:
        if "user_error" in answer:
            raise UserError(answer["user_error"])
    return answers


def print_report(report: Report, console: Console) -> None:
    """Prints what a step that fits costs on one device."""
    where = f"{report['accelerator']} ({report['topology']})"
    table = Table(title=f"{report['training']} on {where}: the step fits")
    table.add_column("per device")
    table.add_column("", justify="right")
    for name, size in report["memory"].items():
        table.add_row(f"memory, {name}", f"{size / _GIB:.3f} GiB")
    table.add_row("usable memory", f"{report['usable_bytes'] / _GIB:.2f} GiB")
    table.add_row("floating point operations", f"{report['flops']:.3e}")
    for kind, found in report["collectives"].items():
        table.add_row(f"{kind} x {found['count']}", f"{found['bytes'] / 2**20:,.2f} MiB")
    if not report["collectives"]:
        table.add_row("collectives", "none")
    console.print(table)


def _python_path() -> str:
    """The child finds recjax where this process found it."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _child() -> None:
    request = json.loads(sys.stdin.read())
    config, topology = ConfigDict(request["config"]), find_topology(request["accelerator"])
    try:
        devices, sizes = topology_devices(topology), find_sizes(config)
        plans = plan_trainings(config, sizes, tuple(request["stages"]), devices[0].platform)
        if not plans:
            raise UserError(f"stages {', '.join(request['stages'])}: none of them trains")
        for plan in plans:
            started = time.monotonic()
            lowered, _ = lower_training(config, plan, devices)
            report = compile_report(lowered, topology)
            report |= {"training": plan.stage, "seconds": time.monotonic() - started}
            print(json.dumps(report), flush=True)
    except UserError as error:
        print(json.dumps({"user_error": str(error)}))


if __name__ == "__main__":
    _child()
