"""One file per stage, each a readable story of its step; this file runs them in order."""

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from recjax import distributed, interrupts
from recjax.context import Context
from recjax.errors import Interrupted, UserError
from recjax.logs import Progress, import_wandb
from recjax.parallel.hardware import peak_resident_gib
from recjax.stages.kinds import check_stages, is_table
from recjax.workdir import STAGE_INPUTS, TABLE_STAGES, Workdir, file_digest, write_json

OPTIONAL = ("features", "evaluate", "recommend")  # read by later stages where the config has them
# stages that all processes work on; the others are work of process 0
_COMMON = ("pretrain", "finetune", "evaluate", "recommend")
_DATA_FILES = ("path", "catalogue_path", "users_path", "graph_path", "impressions_path")
_TABLE_FILES = ("valid_path", "test_path")


def run_stages(
    config: ConfigDict, root: str, stages: tuple[str, ...], redo: str, console: Console
) -> None:
    """Runs the named stages in order; finished ones are skipped, an unfinished one continues.

    Of several processes, number 0 does what is not common work, and it alone writes and speaks.
    """
    if config.num_seeds < 1:
        raise UserError(f"config.num_seeds = {config.num_seeds}; give at least 1")
    check_stages(config, stages)
    if "tune" in stages and distributed.count() > 1:
        raise UserError(
            f"stage 'tune' runs in one process, here are {distributed.count()}; run it alone with "
            "--stages tune on one host, then the rest with the config that it writes"
        )
    if config.logging.wandb_project:
        import_wandb()  # told now, not when the first training begins
    workdir = Workdir.open(root)
    if not distributed.is_main():
        console = Console(quiet=True)
    elif redo:
        workdir.redo(redo)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a resumed run compiles nothing twice
        jax.config.update("jax_compilation_cache_dir", str(workdir / ".compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    context = Context(config, workdir, Progress(workdir, console, _git_revision()))
    state = "failed"
    try:
        with context.progress.alive():
            for stage in stages:
                _run_stage(stage, context)
                # Python drops an exception raised in a finaliser: a signal in one stops us here.
                interrupts.raise_if_requested()
        state = "done"
    except Interrupted:
        state = "interrupted"
        raise
    except Exception as error:
        # A library that the signal met (the table engine, say) answers it with an error of its own.
        if not interrupts.stop_requested():
            raise
        state = "interrupted"
        raise Interrupted("stopped by a signal") from error
    finally:
        context.progress.finish(state)
    if distributed.is_main() and ("report" in stages or "evaluate" in stages):
        _say_goodbye(context)


def _run_stage(stage: str, context: Context) -> None:
    module = importlib.import_module(f"recjax.stages.{stage}")
    workdir = context.workdir
    if distributed.is_main():
        _begin(stage, context)
    distributed.wait_for_main(stage)
    if stage != "check" and workdir.is_done(stage):
        context.progress.console.print(f"[bold]{stage}[/bold] (done before)")
        return
    context.progress.stage(stage)
    started = time.monotonic()
    facts: dict[str, Any] = {}
    if distributed.is_main() or stage in _COMMON:
        facts = module.run(context) or {}
    seconds = time.monotonic() - started
    if distributed.is_main() and stage != "check":
        cost = {"wall_seconds": seconds, "peak_memory_gib": peak_resident_gib()}
        workdir.finish(stage, {**cost, **facts})


def _begin(stage: str, context: Context) -> None:
    """Refuses a stage whose inputs are missing or whose artefacts are of other settings."""
    if stage == "check":  # looks only; leaves no artefact of the path
        return
    workdir = context.workdir
    for needed in inputs_of(stage, context.config):
        if needed not in OPTIONAL or needed in context.config.stages:
            workdir.require_done(needed, stage)
    workdir.start(stage, fingerprint(stage, context))
    if not workdir.is_done(stage):
        write_json(workdir / "config.json", describe_run(context.config))


def inputs_of(stage: str, config: ConfigDict) -> tuple[str, ...]:
    """Returns the stages whose artefacts a stage reads; trials of real users read no draws."""
    before = STAGE_INPUTS[stage][1]
    if is_table(config):
        return tuple(name for name in before if name in TABLE_STAGES)
    if stage == "tune" and config.tune.arms == ("real",):
        return tuple(name for name in before if name != "expand")
    return before


def fingerprint(stage: str, context: Context) -> dict[str, Any]:
    """Returns what a stage's artefacts are made from: settings, input files, earlier stages."""
    keys, before = STAGE_INPUTS[stage][0], inputs_of(stage, context.config)
    if stage == "expand":
        from recjax.objectives import trained_generators  # brings in every model

        keys = (*keys, "model") if trained_generators(context.config) else keys
    settings = {key: _plain(_lookup(context.config, key)) for key in keys}
    made_from: dict[str, Any] = {
        "config": settings,
        "inputs": {name: context.workdir.stage_digest(name) for name in before},
    }
    for key, section in _other_runs(stage, context.config).items():
        other = Workdir.finished(section.workdir, "pretrain", key)
        made_from["inputs"][key] = other.stage_digest("pretrain")
    if stage == "prepare":
        data = context.config.data
        made_from["files"] = _digests(data, _DATA_FILES) | _digests(data.table, _TABLE_FILES)
    if stage == "features":
        made_from["files"] = _digests(context.config.features, ("folder",))
    if stage in ("tune", "pretrain"):
        made_from["files"] = _digests(context.config.pretrain.text, ("corpus",))
    return json.loads(json.dumps(made_from, default=str))


def _other_runs(stage: str, config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the sections that name work directories of other runs which a stage reads."""
    if stage == "expand" and draws_by(config, "masked_fill"):
        return {"config.expansion.masked_fill": config.expansion.masked_fill}
    if stage in ("tune", "pretrain") and config.pretrain.warm_start.workdir:
        return {"config.pretrain.warm_start": config.pretrain.warm_start}
    return {}


def draws_by(config: ConfigDict, strategy: str) -> bool:
    """Returns whether an arm draws by a strategy."""
    return any(strategy in mix for mix in config.expansion.arms.values())


def describe_run(config: ConfigDict) -> dict[str, Any]:
    """Returns config, versions, git revision and devices, for config.json."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "recjax")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "config": _plain(config),
        "command": sys.argv,
        "versions": versions,
        "git": _git_revision(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "platform": platform.platform(),
    }


def _digests(settings: ConfigDict, keys: tuple[str, ...]) -> dict[str, str]:
    paths = {key: Path(settings[key]) for key in keys if settings[key]}
    return {key: file_digest(path) for key, path in paths.items() if path.exists()}


def _say_goodbye(context: Context) -> None:
    from recjax.reporting.tables import print_results
    from recjax.workdir import read_json

    results = context.workdir / "results.json"
    if results.exists():
        print_results(read_json(results), context.progress.console)
    report = context.workdir / "report.html"
    if report.exists():
        context.progress.console.print(f"report: {report}", soft_wrap=True)


def _lookup(config: ConfigDict, dotted: str) -> Any:
    value: Any = config
    for part in dotted.split("."):
        value = value[part]
    return value


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value


def _git_revision() -> str:
    """What the launcher says of the code it sent, or git of the checkout."""
    if "RECJAX_REVISION" in os.environ:
        return os.environ["RECJAX_REVISION"]
    folder = Path(__file__).resolve().parents[2]
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


__all__ = ["describe_run", "fingerprint", "inputs_of", "run_stages"]
