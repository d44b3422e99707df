"""`--aot v5e-8`: compiles a config's real pretraining step for a TPU, in a child process.

The parent asks, the child answers in JSON: the TPU compiler may end its process, and a compile may
take too long. Nothing is allocated and no log is read: the size of the catalogue comes from
`config.aot`. The child is `python -m recjax.preflight`, the request on its standard input.
`dry_run` lowers every training of a config through `lower_training`, for the devices that are here.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from recjax.data.loading import ClickTrainBatches, TrainBatches
from recjax.data.record_sources import ListSource
from recjax.data.records import SCHEMAS
from recjax.errors import UserError
from recjax.models import NUM_SPECIALS
from recjax.objectives import make_pretrain_task
from recjax.parallel import JitEngine, make_mesh
from recjax.parallel.aot import ENVIRONMENT, Report, compile_report, topology_devices
from recjax.parallel.topologies import Topology, find_topology
from recjax.recipe import make_encoder, make_recipe
from recjax.step import TrainState
from recjax.tasks import Click
from recjax.tasks.encoder_task import EncoderTask
from recjax.text_objectives import describe_texts
from recjax.train import with_rows

_GIB = 1 << 30


def run(config: ConfigDict, accelerator: str, console: Console) -> None:
    """Compiles the config's pretraining step for an accelerator type and prints the report.

    Raises:
        UserError: when the type is unknown, libtpu is missing, the config is wrong, the compile
            takes too long, or the step does not fit (with the compiler's own figure).
    """
    topology = find_topology(accelerator)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("--aot needs the TPU compiler, libtpu: pip install 'jax[tpu]'")
    report = ask_child(config, topology)
    if not report["fits"]:
        raise UserError(f"does not fit on {topology.accelerator}: {report['compiler_says']}")
    print_report(report, console)


def ask_child(config: ConfigDict, topology: Topology) -> Report:
    """Runs the compile in a child process.

    Raises:
        UserError: what the child says of the config, or that its time is up.
        RuntimeError: when the child ends without an answer; with the end of what it wrote.
    """
    request = {"config": config.to_dict(), "accelerator": topology.accelerator}
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
            f"the compile took longer than config.aot.timeout_seconds = {seconds}"
        ) from error
    lines = child.stdout.splitlines()
    if child.returncode or not lines:
        raise RuntimeError(
            f"the TPU compiler ended with {child.returncode}: {child.stderr[-3000:]}"
        )
    answer: Report = json.loads(lines[-1])
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    return answer


def lower_pretraining(config: ConfigDict, devices: Any) -> Any:
    """Lowers the pretraining step of a config for devices that need not exist.

    Args:
        config: complete; `config.aot` has the sizes that a log would give.
        devices: of a topology.

    Returns:
        `jax.stages.Lowered`.

    Raises:
        UserError: when the config or its mesh does not fit.
    """
    encoder = make_encoder(
        config,
        vocab_size=config.aot.num_items + NUM_SPECIALS,
        num_categories=config.aot.num_categories + 1,
        platform=devices[0].platform,
    )
    task = make_pretrain_task(config, encoder, describe_texts(config, encoder.table_rows))
    return lower_training(config, task, config.pretrain, devices)[0]


def lower_training(
    config: ConfigDict, task: EncoderTask, settings: ConfigDict, devices: Any
) -> tuple[Any, TrainState]:
    """Lowers the step of a training for devices that need not exist; nothing is allocated.

    Args:
        config: complete.
        task: what is trained.
        settings: the section of the config that says how.
        devices: what the config's mesh is made of.

    Returns:
        `jax.stages.Lowered` and the abstract state with shardings.

    Raises:
        UserError: when the config or its mesh does not fit.
    """
    if config.parallel.engine != "jit":
        raise UserError(
            f"--aot and --dry_run compile the jit engine, not {config.parallel.engine!r}"
        )
    recipe = make_recipe(task, settings, None)
    seeds = jax.ShapeDtypeStruct((config.num_seeds,), jnp.uint32)
    state = jax.eval_shape(recipe.create, jax.eval_shape(recipe.init_params, seeds), seeds)
    rows = task.encoder.table_rows
    constants = {"item_category": jax.ShapeDtypeStruct((rows,), jnp.int32)}
    constants |= describe_texts(config, rows).constants
    batch = _batch(config, settings, "click" if isinstance(task, Click) else "sequences")
    try:
        engine = JitEngine(make_mesh(dict(config.parallel.mesh), devices))
        engine.check_rows(settings.batch_size, settings.accumulate_steps)
        state = engine.abstract(state, recipe.logical)
        lowered = engine.lower_step(recipe.step, recipe.logical, state, batch, constants)
    except ValueError as error:
        raise UserError(str(error)) from error
    return lowered, state


def print_report(report: Report, console: Console) -> None:
    """Prints what a step that fits costs on one device."""
    table = Table(title=f"{report['accelerator']} ({report['topology']}): the step fits")
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
    console.print("Loop bodies count once. Compiled, not run: nothing is said of speed or numbers.")


def _batch(config: ConfigDict, settings: ConfigDict, kind: str) -> dict[str, Any]:
    """The shapes of a training batch: what the loader makes of one empty record, made larger."""
    record = {
        name: np.zeros(1 if field.is_array else (), field.dtype)
        for name, field in SCHEMAS[kind].items()
    }
    loader = ClickTrainBatches if kind == "click" else TrainBatches
    batches = loader(
        [[ListSource([record])]],
        batch_size=1,
        max_len=config.model.max_len,
        num_gap_bins=config.prepare.num_gap_bins,
        seeds=(0,),
    )
    small = next(iter(batches))
    shape = (config.num_seeds, settings.batch_size)
    return {
        name: jax.ShapeDtypeStruct((*shape, *value.shape[2:]), value.dtype)
        for name, value in with_rows(small).items()
    }


def _python_path() -> str:
    """The child finds recjax where this process found it."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _child() -> None:
    request = json.loads(sys.stdin.read())
    topology = find_topology(request["accelerator"])
    try:
        lowered = lower_pretraining(ConfigDict(request["config"]), topology_devices(topology))
        answer = compile_report(lowered, topology)
    except UserError as error:
        answer = {"user_error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _child()
