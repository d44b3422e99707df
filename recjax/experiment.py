"""Which model is trained on what, with which budget: arms x seeds x tasks.

An arm is a choice of training data ("real", or real plus a mix of synthetic behaviour). All arms
have the same model, steps, batches and selection; all seeds of an arm train together, a leading
member axis. The stages pretrain, finetune, evaluate and recommend read their arms from here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from recjax import warm_start
from recjax.context import Context, read_config
from recjax.data import loading
from recjax.data.items import ItemTable, read_items
from recjax.data.record_sources import CachedSource, LimitedSource, Source, open_examples
from recjax.errors import UserError
from recjax.expansion import (
    ArmSettings,
    FreshUsers,
    GeneratorState,
    Teacher,
    load_generator,
    stack_fresh_users,
    stack_teachers,
)
from recjax.judging import Batch, ClickScorer, Ranker, auc_validator, ndcg_validator
from recjax.models import EncoderConfig
from recjax.objectives import (
    GeneratorTask,
    make_click_task,
    make_finetune_task,
    make_generator_task,
    make_next_item_task,
    make_pretrain_task,
    with_fresh_rows,
    with_soft_targets,
)
from recjax.recipe import make_arm_settings, make_encoder, make_recipe
from recjax.step import Task
from recjax.tasks import Click, Mixture, NextItem, transfer
from recjax.text_objectives import Texts, read_texts
from recjax.train import Training, load_best
from recjax.training_plan import TrainingPlan, Validator
from recjax.workdir import Workdir

Tree = Any
Start = Callable[[Tree], Tree]  # fresh parameters -> those that a training begins with

REAL = "real"
GENERATORS = "expansion/generators"  # folder of what draws synthetic users
_CACHE_BYTES = 1 << 30  # decoded examples kept in memory, per source


@dataclass(frozen=True)
class Experiment(TrainingPlan):
    """The plan of one run, read from its config and its prepared data.

    Attributes:
        opened: sources that are open, by name and part of the examples, or by arm and seed.
    """

    opened: dict[tuple[str, str], Source] = field(default_factory=dict, repr=False)

    # ---- what there is ----

    @property
    def arms(self) -> tuple[str, ...]:
        """Arm names, the real-only arm first."""
        return (REAL, *self.context.config.expansion.arms)

    @cached_property
    def arm_settings(self) -> dict[str, ArmSettings]:
        """How each arm uses its draws.

        Raises:
            UserError: when a setting, or an arm's own, is unknown or out of range.
        """
        return make_arm_settings(self.context.config)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The fine-tuning tasks that the prepared log has examples for."""
        names = self.context.config.finetune.tasks
        return tuple(name for name in names if name != "click" or len(self.examples(name, "train")))

    @cached_property
    def items(self) -> ItemTable:
        """Catalogue columns by item id."""
        return read_items(self.context.workdir / "prepared" / "items.parquet")

    @cached_property
    def encoder(self) -> EncoderConfig:
        """The encoder that every arm and task shares."""
        items = self.items
        return make_encoder(
            self.context.config,
            vocab_size=items.vocab_size,
            num_categories=items.num_categories,
            platform=self.context.engine.mesh.devices.flat[0].platform,
        )

    @cached_property
    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that the model looks up, most by row of the item table; every step gets them."""
        beyond = self.encoder.table_rows - self.items.vocab_size
        category = np.pad(self.items.category_id.astype(np.int32), (0, beyond))
        return {"item_category": category, **self.texts.constants}

    @cached_property
    def texts(self) -> Texts:
        """What the text objectives read; nothing without any."""
        prepared = self.context.workdir / "prepared"
        return read_texts(self.context.config, prepared, self.encoder.table_rows)

    def examples(self, name: str, split: str) -> Source:
        """Opens prepared examples, decoded ones kept in memory up to a bound."""
        key = (name, split)
        if key not in self.opened:
            folder = self.context.workdir / "prepared" / "examples"
            self.opened[key] = CachedSource(open_examples(folder, name, split), _CACHE_BYTES)
        return self.opened[key]

    def synthetic(self, arm: str, seed: int, kind: str = "sequences") -> Source:
        """Opens the draws of one arm and seed, unless they are open; "click": examples of them."""
        if kind == "sequences" and (arm, str(seed)) in self.opened:
            return self.opened[arm, str(seed)]
        folder = self.context.workdir / "expansion" / arm / f"seed_{seed}"
        return CachedSource(open_examples(folder, kind, "train"), _CACHE_BYTES)

    # ---- tasks ----

    def pretrain_task(self) -> Mixture:
        """Returns the pretraining task."""
        return make_pretrain_task(self.context.config, self.encoder, self.texts)

    def next_item_task(self) -> NextItem:
        """Returns the next-item task."""
        return make_next_item_task(self.context.config, self.encoder)

    def generator_task(self, strategy: str) -> GeneratorTask:
        """Returns the task whose model a strategy draws from."""
        return make_generator_task(self.context.config, self.encoder, strategy)

    def click_task(self) -> Click:
        """Returns the click task."""
        return make_click_task(self.context.config, self.encoder)

    def finetune_task(self, name: str) -> NextItem | Click:
        """Returns a fine-tuning task by name."""
        return make_finetune_task(self.context.config, self.encoder, name)

    # ---- judges ----

    def ranker(self, task: Mixture | GeneratorTask, top_n: int) -> Ranker:
        """Returns the full-catalogue ranker under the config's protocol."""
        config = self.context.config.evaluate
        return Ranker(
            task,
            self.context.engine,
            self.constants,
            item_chunk=config.item_chunk,
            top_n=top_n,
            mask_history=config.mask_history,
        )

    def click_scorer(self) -> ClickScorer:
        """Returns the scorer of shown items."""
        return ClickScorer(self.click_task(), self.context.engine, self.constants)

    def rank_batches(self, source: Source) -> list[Batch]:
        """Returns the evaluation batches of next_item examples, each exactly once."""
        return list(loading.evaluation_batches(source, **self._evaluation_shape()))

    def click_batches(self, source: Source) -> list[Batch]:
        """Returns the batches of click examples, each exactly once."""
        return list(loading.click_batches(source, **self._evaluation_shape()))

    def validation(self, name: str) -> Source:
        """Returns the validation examples that training looks at: all, or a fixed subset."""
        return LimitedSource(
            self.examples(name, "valid"), self.context.config.evaluate.max_valid_users
        )

    def judged(self, name: str) -> Source:
        """Returns the examples that the evaluate stage judges: test, or validation for a screen.

        Raises:
            UserError: for another part.
        """
        return self.examples(name, self.judged_part)

    def other_run(self, path: str, arm: str, key: str) -> "Experiment":
        """Returns another run as an experiment, on the devices of this one.

        Args:
            path: its work directory.
            arm: one that was pretrained there.
            key: of the config that names it, for messages.

        Raises:
            UserError: when that pretraining is not finished, or lacks a seed of this run.
        """
        workdir = Workdir.finished(path, "pretrain", key)
        config = read_config(workdir)
        config.parallel = self.context.config.parallel
        other = Experiment(Context(config, workdir, self.context.progress))
        if not (workdir / "pretrain" / arm).exists():
            raise UserError(f"{key}.arm = {arm!r} has no pretraining in {path}")
        if missing := sorted({*self.context.seeds} - {*other.context.seeds}):
            raise UserError(f"{key}: {path} has seeds {other.context.seeds}, none for {missing[0]}")
        return other

    def opened_for(self, arm: str, num_seeds: int) -> "Experiment":
        """Returns the experiment with the draws of an arm's first members open."""
        seeds = () if arm == REAL else self.context.seeds[:num_seeds]
        return replace(self, opened={(arm, str(s)): self.synthetic(arm, s) for s in seeds})

    def check_recipes(self, name: str) -> None:
        """Raises UserError or ValueError when a training up to this task could not be made."""
        config = self.context.config
        make_recipe(self.pretrain_task(), config.pretrain, None)
        make_recipe(self.finetune_task(name), config.finetune[name], None)

    # ---- trainings ----

    def pretraining(self, arm: str) -> Training:
        """Returns the pretraining of one arm, judged by the next item of validation users."""
        task, settings = self.pretrain_task(), self.context.config.pretrain
        return self._training(
            stage="pretrain",
            arm=arm,
            task=task,
            settings=settings,
            batches=self._sequence_batches(arm, "pretrain", settings),
            start=self._warm_start,
            use=self._use_of_generator(arm, "pretrain"),
        )

    def finetuning(self, name: str, arm: str) -> Training:
        """Returns the fine-tuning of one task and arm, started from the arm's pretraining."""
        task, settings = self.finetune_task(name), self.context.config.finetune[name]
        if isinstance(task, NextItem):
            batches = self._sequence_batches(arm, "finetune", settings)
            use = self._use_of_generator(arm, "finetune")
        else:
            batches, use = self._click_train_batches(arm, settings), None
        return self._training(
            stage=f"finetune/{name}",
            arm=arm,
            task=task,
            settings=settings,
            batches=batches,
            start=self._pretrained(arm),
            use=use,
        )

    def trainings_to(self, name: str, arm: str) -> Iterator[Training]:
        """Yields pretraining, where there is one, and the fine-tuning that starts from it."""
        if self.context.config.pretrain.num_steps:
            yield self.pretraining(self.pretrain_arm(arm))
        yield self.finetuning(name, arm)

    def generator_training(self, strategy: str) -> Training:
        """Returns the training, on real users, of what a strategy draws from."""
        settings = self.context.config.expansion[strategy]
        return self._training(
            stage=GENERATORS,
            arm=strategy,
            task=self.generator_task(strategy),
            settings=settings,
            batches=self._sequence_batches(REAL, GENERATORS, settings),
            start=None,
        )

    def generator_params(self, strategy: str) -> Tree:
        """Loads what a finished `generator_training` found best, leaves [M, ...]."""
        folder = self._folder(GENERATORS, strategy)
        return load_best(folder, self._abstract_params(self.generator_task(strategy)))

    def pretrain_params(self, arm: str) -> Tree:
        """Loads what a finished pretraining found best, leaves [M, ...]."""
        return load_best(self._folder("pretrain", arm), self._abstract_params(self.pretrain_task()))

    def pretrain_arm(self, arm: str) -> str:
        """Returns whose pretraining an arm starts from: its own if draws enter there."""
        own = arm != REAL and self.arm_settings[arm].enters("pretrain")
        return arm if own else REAL

    def text_encoders(self, arm: str) -> Tree:
        """Loads the text encoders of a finished pretraining that has one, leaves [M, ...]."""
        return self.pretrain_params(arm)["text"]

    def best_params(self, name: str, arm: str) -> Tree:
        """Loads the best parameters of a finished fine-tuning, leaves [M, ...]."""
        folder = self._folder(f"finetune/{name}", arm)
        return load_best(folder, self._abstract_params(self.finetune_task(name)))

    # ---- parts of a training ----

    def _pretrained(self, arm: str) -> Start | None:
        if not self.context.config.pretrain.num_steps:
            return None
        return partial(transfer, self.pretrain_params(self.pretrain_arm(arm)))

    @cached_property
    def _warm_start(self) -> Start | None:
        """How a pretraining begins from another run's; None: with fresh parameters."""
        settings = self.context.config.pretrain.warm_start
        if not settings.workdir:
            return None
        other = self.other_run(settings.workdir, settings.arm, warm_start.KEY)
        places = np.array([other.context.seeds.index(seed) for seed in self.context.seeds])
        params = jax.tree.map(lambda leaf: leaf[places], other.pretrain_params(settings.arm))
        names = [
            warm_start.names_of_rows(run.items, run.context.config.data.actions)
            for run in (other, self)
        ]
        rows = {table: warm_start.match_rows(*(n[table] for n in names)) for table in names[0]}
        return lambda fresh: warm_start.warm_start(params, fresh, rows)

    def _validator(self, task: Mixture | GeneratorTask | Click) -> Validator:
        """Returns params -> the metric [M] that early stopping looks at."""
        if isinstance(task, Click):
            return auc_validator(self.click_scorer(), self.click_batches(self.validation("click")))
        batches = self.rank_batches(self.validation("next_item"))
        return ndcg_validator(self.ranker(task, top_n=0), batches)

    def _training_sources(self, arm: str, stage: str) -> list[list[Source]]:
        """Real users, and the member's own draws where the config lets them in."""
        real = self.examples("sequences", "train")
        if arm == REAL or not self.arm_settings[arm].enters(stage):
            return [[real] for _ in self.context.seeds]
        return [[real, self.synthetic(arm, seed)] for seed in self.context.seeds]

    def _sequence_batches(self, arm: str, stage: str, settings: ConfigDict) -> grain.IterDataset:
        try:
            return loading.TrainBatches(
                self._training_sources(arm, stage),
                pack=settings.pack,
                long_users=settings.long_users,
                synthetic_share=self._synthetic_share(arm, settings),
                **self._train_shape(settings),
            )
        except ValueError as error:
            raise UserError(f"arm {arm!r}, {stage}: {error}") from error

    def _synthetic_share(self, arm: str, settings: ConfigDict) -> Callable[[int], float] | None:
        """Returns number of a batch -> share of synthetic records in it; None: as they come."""
        if arm == REAL or not self.arm_settings[arm].synthetic_share:
            return None
        return partial(self.arm_settings[arm].share_at, num_steps=settings.num_steps)

    def _click_train_batches(self, arm: str, settings: ConfigDict) -> grain.IterDataset:
        """Real impressions, and those of the member's own draws where the config lets them in."""
        real, use = self.examples("click", "train"), self._use_of_generator(arm, "finetune")
        share = None
        sources = [[real] for _ in self.context.seeds]
        if use and self.context.config.expansion.clicks.per_user:
            sources = [[real, self.synthetic(arm, seed, "click")] for seed in self.context.seeds]
            share = self._synthetic_share(arm, settings)
        return loading.ClickTrainBatches(
            sources, synthetic_share=share, **self._train_shape(settings)
        )

    def _train_shape(self, settings: ConfigDict) -> dict[str, Any]:
        config = self.context.config
        return {
            "batch_size": settings.batch_size,
            "rows": self.local_rows(settings.batch_size, settings.accumulate_steps),
            "max_len": config.model.max_len,
            "num_gap_bins": config.prepare.num_gap_bins,
            "seeds": self.context.seeds,
        }

    def _evaluation_shape(self) -> dict[str, Any]:
        config = self.context.config
        return {
            "batch_size": config.evaluate.batch_size,
            "rows": self.local_rows(config.evaluate.batch_size),
            "max_len": config.model.max_len,
            "num_gap_bins": config.prepare.num_gap_bins,
        }

    def _training(
        self,
        *,
        stage: str,
        arm: str,
        task: Mixture | GeneratorTask | Click,
        settings: ConfigDict,
        batches: grain.IterDataset,
        start: Start | None,
        use: ArmSettings | None = None,
    ) -> Training:
        """Returns a training; `use` says what the fitted generator does in its steps."""
        constants = dict[str, Any](self.constants)
        soft, fresh = (use.soft_targets, use.fresh_share) if use else (0.0, 0.0)
        if soft and isinstance(task, NextItem | Mixture):
            task, constants["teacher"] = with_soft_targets(task, soft), self._teacher
        trained: Task = task
        if fresh and isinstance(task, NextItem | Mixture):
            trained = with_fresh_rows(task, fresh, self.context.config.model.max_len, settings.pack)
            constants["fresh"] = self._fresh_users
        return self._make_training(
            stage=stage,
            arm=arm,
            task=trained,
            settings=settings,
            batches=batches,
            constants=constants,
            start=start or (lambda fresh: fresh),
            evaluate=partial(self._validator, task),
            metric_name="auc" if isinstance(task, Click) else "ndcg_at_10",
            # but for what the generator does in the step, arms differ in their data only
            compiled_as=f"{stage}, {task.name}, soft targets {soft}, fresh rows {fresh}",
        )

    def _use_of_generator(self, arm: str, stage: str) -> ArmSettings | None:
        """Returns an arm's settings in a stage that its draws enter."""
        if arm == REAL or not self.arm_settings[arm].enters(stage):
            return None
        return self.arm_settings[arm]

    @cached_property
    def _teacher(self) -> Teacher:
        return stack_teachers(self._generators, self.encoder.table_rows)

    @cached_property
    def _fresh_users(self) -> FreshUsers:
        return stack_fresh_users(self._generators)

    @cached_property
    def _generators(self) -> list[GeneratorState]:
        """What the expand stage fitted, one per member."""
        folder = self.context.workdir / GENERATORS
        return [load_generator(folder / f"seed_{seed}.npz") for seed in self.context.seeds]
