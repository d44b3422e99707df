"""What every plan of a run shares: folders, abstract parameters, and a `Training` out of its parts.

`experiment` plans trainings on behaviour logs, `row_experiment` on labelled tables.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from recjax.context import Context
from recjax.data import loading
from recjax.errors import UserError
from recjax.recipe import make_recipe
from recjax.step import Task
from recjax.train import LoopConfig, Training

Tree = Any
Validator = Callable[[Tree], np.ndarray]


@dataclass(frozen=True)
class TrainingPlan(abc.ABC):
    """A plan of trainings; subclasses know data, tasks and arms.

    Attributes:
        context: config, work directory, devices.
        within: folder of the work directory that holds the trainings; "" = it holds them itself.
    """

    context: Context
    within: str = ""

    @property
    @abc.abstractmethod
    def arms(self) -> tuple[str, ...]:
        """What is compared."""

    @property
    @abc.abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """The fine-tuning tasks that the prepared data have examples for."""

    @abc.abstractmethod
    def finetuning(self, name: str, arm: str) -> Training:
        """Returns the fine-tuning of one task and arm."""

    def trainings_to(self, name: str, arm: str) -> Iterator[Training]:
        """Yields the trainings that end with a fine-tuning, each when the one before is over."""
        yield self.finetuning(name, arm)

    @abc.abstractmethod
    def opened_for(self, arm: str, num_seeds: int) -> "TrainingPlan":
        """Returns the plan with what an arm's first members read held open."""

    @abc.abstractmethod
    def check_recipes(self, name: str) -> None:
        """Raises UserError or ValueError when a training up to this task could not be made."""

    @property
    def judged_part(self) -> str:
        """The part that the evaluate stage judges: test, or validation for a screen.

        Raises:
            UserError: for another part.
        """
        part = self.context.config.evaluate.part
        if part not in ("test", "valid"):
            raise UserError(f"config.evaluate.part = {part!r}; known: test, valid")
        return part

    def local_rows(self, batch_size: int, accumulate_steps: int = 1) -> np.ndarray:
        """Returns the global rows of a batch that this process feeds, ascending.

        Raises:
            UserError: when the batch does not divide over the devices and the parts of a step.
        """
        try:
            self.context.engine.check_rows(batch_size, accumulate_steps)
        except ValueError as error:
            raise UserError(str(error)) from error
        return self.context.engine.local_rows(batch_size)

    @cached_property
    def _compiled(self) -> dict[str, dict[str, Any]]:
        """Compiled functions by name: trainings that differ in their data only share them."""
        return {}

    def _folder(self, stage: str, arm: str) -> Path:
        return self.context.workdir / self.within / stage / arm

    def _abstract_params(self, task: Task) -> Tree:
        members = len(self.context.seeds)
        tree = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
        return self.context.engine.abstract(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), tree),
            task.logical_axes(),
        )

    def _make_training(
        self,
        *,
        stage: str,
        arm: str,
        task: Task,
        settings: ConfigDict,
        batches: grain.IterDataset,
        constants: Mapping[str, Any],
        start: Callable[[Tree], Tree],
        evaluate: Callable[[], Validator],
        metric_name: str,
        compiled_as: str,
    ) -> Training:
        config = self.context.config
        if compiled_as not in self._compiled:
            self._compiled[compiled_as] = self._compile(task, settings, constants, evaluate)

        return Training(
            label=f"{stage}/{arm}",
            folder=self._folder(stage, arm),
            **self._compiled[compiled_as],
            start=start,
            batches=iter(loading.prefetch(batches, config.parallel.prefetch_batches)),
            constants=constants,
            metric_name=metric_name,
            seeds=self.context.seeds,
            loop=LoopConfig(
                num_steps=settings.num_steps,
                eval_interval_steps=settings.eval_interval_steps,
                early_stop_evals=settings.early_stop_evals,
                checkpoint_interval_steps=config.checkpoint.interval_steps,
                log_interval_steps=config.logging.interval_steps,
                keep_last=config.checkpoint.keep_last,
                keep_best=config.checkpoint.keep_best,
                tensorboard=config.logging.tensorboard,
                wandb_project=config.logging.wandb_project,
                profile_start_step=config.logging.profile_start_step,
                profile_num_steps=config.logging.profile_num_steps,
            ),
        )

    def _compile(
        self,
        task: Task,
        settings: ConfigDict,
        constants: Mapping[str, Any],
        evaluate: Callable[[], Validator],
    ) -> dict[str, Any]:
        """Returns the functions of a `Training`: init_params, create, step, evaluate, flops."""
        engine = self.context.engine
        recipe = make_recipe(task, settings, engine.axis_name)
        return {
            "init_params": engine.compile_once(recipe.init_params, recipe.logical),
            "create": engine.compile_once(recipe.create, recipe.logical),
            "step": engine.compile_step(recipe.step, recipe.logical),
            "evaluate": evaluate(),
            "flops": lambda batch: recipe.flops(batch, constants),
        }
