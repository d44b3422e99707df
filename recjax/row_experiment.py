"""Which head is trained on a labelled table, with which settings: heads x seeds.

An arm is a head of `recjax.models.ctr` (see `row_heads`); all have the same rows, steps and
selection, and may have settings of their own. The stages finetune, tune and evaluate read their
arms from here where `config.data.kind` is "table".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from recjax import row_heads
from recjax.data.features import FeatureSchema
from recjax.data.prepare_rows import RowSource
from recjax.data.row_batches import RowTrainBatches, row_batches
from recjax.judging import Batch, ClickScorer, auc_validator
from recjax.recipe import make_recipe
from recjax.tasks import RowClick
from recjax.train import Training, load_best
from recjax.training_plan import TrainingPlan, Validator

Tree = Any


@dataclass(frozen=True)
class RowExperiment(TrainingPlan):
    """The plan of a run on a labelled table, read from its config and its prepared rows."""

    # ---- what there is ----

    @property
    def task_name(self) -> str:
        """Name of the one task: row_click, or row_outcomes where several outcomes are learned."""
        return row_heads.task_name_of(self.context.config)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the outcomes of a row."""
        return row_heads.outcomes_of(self.context.config)

    @property
    def constants(self) -> Mapping[str, np.ndarray]:
        """Nothing: heads look nothing up but their own tables."""
        return {}

    @property
    def arms(self) -> tuple[str, ...]:
        """The heads, and what stands beside them.

        Raises:
            UserError: if there is none, one stands twice, or an override names none of them.
        """
        return row_heads.arms_of(self.context.config)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task of a table."""
        return (self.task_name,)

    @cached_property
    def schema(self) -> FeatureSchema:
        """The features, as fitted on the training part."""
        return FeatureSchema.load(self.context.workdir / "prepared" / "features.json")

    @cached_property
    def _sources(self) -> dict[str, RowSource]:
        return {}

    def source(self, part: str) -> RowSource:
        """Opens the rows of a part."""
        if part not in self._sources:
            folder = self.context.workdir / "prepared" / "rows" / part
            self._sources[part] = RowSource(folder, len(self.outcomes) > 1)
        return self._sources[part]

    def settings_of(self, head: str) -> ConfigDict:
        """Returns the training and model settings of a head: those of all heads, its own over them.

        Raises:
            UserError: when an own setting is unknown.
        """
        return row_heads.settings_of(self.context.config, head)

    def task(self, head: str) -> RowClick:
        """Returns the task with a head.

        Raises:
            UserError: when a setting is out of range.
        """
        schema = self.schema
        return row_heads.make_row_task(
            self.context.config, head, num_rows=schema.num_rows, slots=schema.slots
        )

    def opened_for(self, arm: str, num_seeds: int) -> "RowExperiment":
        """Returns itself: all heads read the same rows."""
        del arm, num_seeds
        return self

    def check_recipes(self, name: str) -> None:
        """Raises UserError or ValueError when a head could not be trained."""
        del name
        for head in self.arms:
            make_recipe(self.task(head), self.settings_of(head), None)

    # ---- judges ----

    def scorer(self, head: str) -> ClickScorer:
        """Returns what scores rows by a head."""
        return ClickScorer(self.task(head), self.context.engine, self.constants)

    def judged_batches(self, part: str) -> list[Batch]:
        """Returns the batches of a part, each row exactly once."""
        size = self.context.config.evaluate.batch_size
        return list(row_batches(self.source(part), batch_size=size, rows=self.local_rows(size)))

    def best_params(self, name: str, arm: str) -> Tree:
        """Loads the best parameters of a finished training, leaves [M, ...]."""
        folder = self._folder(f"finetune/{name}", arm)
        return load_best(folder, self._abstract_params(self.task(arm)))

    def finetuning(self, name: str, arm: str) -> Training:
        """Returns the training of a head."""
        task, settings = self.task(arm), self.settings_of(arm)
        stage = f"finetune/{name}"
        batches = RowTrainBatches(
            self.source("train"),
            batch_size=settings.batch_size,
            seeds=self.context.seeds,
            rows=self.local_rows(settings.batch_size, settings.accumulate_steps),
        )
        return self._make_training(
            stage=stage,
            arm=arm,
            task=task,
            settings=settings,
            batches=batches,
            constants=self.constants,
            start=lambda fresh: fresh,
            evaluate=partial(self._validator, arm),
            metric_name="auc",
            compiled_as=f"{stage}/{arm}",
        )

    def _validator(self, head: str) -> Validator:
        judge: Callable[[Tree], np.ndarray] = auc_validator(
            self.scorer(head), self.judged_batches("valid")
        )
        return judge
