"""`--dry_run`: what a config would train and what it would hold on each device; allocates nothing.

Every training is lowered and compiled for the devices that are here, and the compiler's own figures
are set against their memory. Ranking the catalogue (evaluate, early stopping) is not in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from recjax.errors import UserError
from recjax.parallel.hardware import GIB, memory_bytes
from recjax.parameter_table import Parameter, device_bytes, list_parameters, parameter_table
from recjax.planned import Plan, find_sizes, lower_training, plan_trainings


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
    sizes, devices = find_sizes(config, workdir), jax.devices()
    console.print(f"sizes: {sizes.source}", soft_wrap=True)
    available, too_large = memory_bytes(devices[0]), []
    for plan in plan_trainings(config, sizes, stages, devices[0].platform):
        estimate = estimate_memory(config, plan, devices)
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


def estimate_memory(config: ConfigDict, plan: Plan, devices: Any) -> Estimate:
    """Compiles a training's step and sorts the bytes it needs on one device.

    Gradients are as large as the parameters and part of the compiler's temporaries; the rest of
    those are activations and what else a step makes for itself.

    Raises:
        UserError: when the config or its mesh does not fit.
    """
    lowered, state = lower_training(config, plan, devices)
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
    events = f" x {config.model.max_len} events" if "events" in plan.batch else ""
    console.print(
        f"{plan.stage}: {count} training{'s'[: count > 1]} ({', '.join(plan.arms)}), "
        f"{config.num_seeds} seeds at once, {settings.num_steps} steps of {settings.batch_size} "
        f"rows{events} on {jax.device_count()} devices",
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
