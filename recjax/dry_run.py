"""`--dry_run`: what a config would train and what it would hold on each device; allocates nothing.

Every training is lowered and compiled for the devices that are here, and the compiler's own figures
are set against their memory. Ranking the catalogue (evaluate, early stopping) is not in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from recjax.data.items import read_items
from recjax.errors import UserError
from recjax.experiment import GENERATORS, REAL
from recjax.models import NUM_SPECIALS, EncoderConfig
from recjax.objectives import (
    make_finetune_task,
    make_generator_task,
    make_pretrain_task,
    trains_generator,
)
from recjax.parallel.hardware import GIB, memory_bytes
from recjax.parameter_table import Parameter, device_bytes, list_parameters, parameter_table
from recjax.preflight import lower_training
from recjax.recipe import make_arm_settings, make_encoder
from recjax.stages.kinds import is_table
from recjax.tasks.encoder_task import EncoderTask
from recjax.text_objectives import describe_texts


@dataclass(frozen=True)
class Plan:
    """Trainings that differ in their data only: one compiled step serves them all."""

    stage: str  # pretrain, finetune/TASK
    arms: tuple[str, ...]
    task: EncoderTask
    settings: ConfigDict


@dataclass(frozen=True)
class Estimate:
    """What one training holds: its parameters, and bytes on one device by what they are for."""

    parameters: list[Parameter]
    memory: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes on one device."""
        return sum(self.memory.values())


def run(config: ConfigDict, workdir: str, stages: tuple[str, ...], console: Console) -> None:
    """Prints plan, parameters and memory of the trainings in these stages.

    Args:
        config: complete.
        workdir: where the prepared catalogue is looked for; without one, `config.aot` sizes it.
        stages: those that would run.
        console: where to.

    Raises:
        UserError: when the config does not fit together, or a training exceeds the memory.
    """
    if is_table(config):
        raise UserError("--dry_run plans trainings on a behaviour log; config.data.kind is 'table'")
    encoder = _encoder(config, Path(workdir) / "prepared" / "items.parquet", console)
    available, too_large = memory_bytes(jax.devices()[0]), []
    for plan in plan_trainings(config, encoder, stages):
        estimate = estimate_memory(config, plan, jax.devices())
        print_estimate(config, plan, estimate, available, console)
        if available is not None and estimate.total > available:
            too_large.append(f"{plan.stage} needs {estimate.total / GIB:.2f} GiB")
    if too_large and available is not None:
        raise UserError(
            f"does not fit: {', '.join(too_large)} on each device, which has "
            f"{available / GIB:.2f} GiB; try a smaller batch_size, model.remat=full, or more "
            "devices under parallel.mesh.fsdp"
        )
    console.print("Dry run: nothing was allocated, read or trained.")


def plan_trainings(
    config: ConfigDict, encoder: EncoderConfig, stages: tuple[str, ...]
) -> list[Plan]:
    """Lists the trainings of the stages that train, as `Experiment` would make them."""
    arms, plans = (REAL, *config.expansion.arms), []
    if "expand" in stages and trains_generator(config):
        generator = make_generator_task(config, encoder)
        plans.append(Plan(GENERATORS, ("transformer",), generator, config.expansion.transformer))
    if "pretrain" in stages and config.pretrain.num_steps:
        settings = make_arm_settings(config)
        own = (REAL, *(arm for arm in settings if settings[arm].enters("pretrain")))
        texts = describe_texts(config, encoder.table_rows)
        task = make_pretrain_task(config, encoder, texts)
        plans.append(Plan("pretrain", own, task, config.pretrain))
    for name in config.finetune.tasks if "finetune" in stages else ():
        head = make_finetune_task(config, encoder, name)
        plans.append(Plan(f"finetune/{name}", arms, head, config.finetune[name]))
    return plans


def estimate_memory(config: ConfigDict, plan: Plan, devices: Any) -> Estimate:
    """Compiles a training's step and sorts the bytes it needs on one device.

    Gradients are as large as the parameters and part of the compiler's temporaries; the rest of
    those are activations and what else a step makes for itself.

    Raises:
        UserError: when the config or its mesh does not fit.
    """
    lowered, state = lower_training(config, plan.task, plan.settings, devices)
    analysis = lowered.compile().memory_analysis()
    weights, held = device_bytes(state.params), device_bytes(state)
    temporaries = max(analysis.temp_size_in_bytes, weights)
    memory = {
        "parameters": weights,
        "optimizer moments": device_bytes(state.opt_state),
        "best parameters so far": device_bytes(state.best_params),
        "moving average": device_bytes(state.average),
        "gradients": weights,
        "activations, temporaries": temporaries - weights,
        "batch and constants": max(0, analysis.argument_size_in_bytes - held),
        "results beside the state": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
    }
    return Estimate(list_parameters(state.params), memory)


def print_estimate(
    config: ConfigDict, plan: Plan, estimate: Estimate, available: int | None, console: Console
) -> None:
    """Prints one plan, its parameters and its memory."""
    settings, count = plan.settings, len(plan.arms)
    console.print(
        f"{plan.stage}: {count} training{'s'[: count > 1]} ({', '.join(plan.arms)}), "
        f"{config.num_seeds} seeds at once, {settings.num_steps} steps of {settings.batch_size} "
        f"rows x {config.model.max_len} events on {jax.device_count()} devices",
        style="bold",
        markup=False,
    )
    console.print(parameter_table(estimate.parameters))
    table = Table("memory of one device", title_justify="left", show_footer=True)
    table.columns[0].footer = "in all" if available is None else f"of {available / GIB:.2f} GiB"
    table.add_column("GiB", f"{estimate.total / GIB:.4f}", justify="right")
    for name, size in estimate.memory.items():
        table.add_row(name, f"{size / GIB:.4f}")
    console.print(table)


def _encoder(config: ConfigDict, items: Path, console: Console) -> EncoderConfig:
    """The encoder for the prepared catalogue, or for the sizes in `config.aot`."""
    if items.is_file():
        table = read_items(items)
        size, categories = table.vocab_size, table.num_categories
        console.print(f"catalogue: {size - NUM_SPECIALS:,} items, of {items}", soft_wrap=True)
    else:
        size, categories = config.aot.num_items + NUM_SPECIALS, config.aot.num_categories + 1
        console.print(f"catalogue: {config.aot.num_items:,} items, by config.aot.num_items")
    platform = jax.devices()[0].platform
    return make_encoder(config, vocab_size=size, num_categories=categories, platform=platform)
