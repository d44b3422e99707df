"""The trainings that a config runs, by sizes alone: what `--aot` and `--dry_run` lower.

Nothing is allocated and no log is read. Sizes are those of a prepared work directory, or of
`config.aot` before there is one. Called by `recjax.preflight` and `recjax.dry_run`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from recjax import row_heads
from recjax.batch_shapes import Shapes, log_batch, row_batch
from recjax.data.feature_settings import FeatureConfig, make_features
from recjax.data.features import FeatureSchema
from recjax.data.items import read_items
from recjax.errors import UserError
from recjax.experiment import GENERATORS, REAL
from recjax.models import NUM_SPECIALS, EncoderConfig
from recjax.objectives import (
    make_finetune_task,
    make_generator_task,
    make_pretrain_task,
    trained_generators,
)
from recjax.parallel import JitEngine, make_mesh
from recjax.recipe import make_arm_settings, make_encoder, make_recipe
from recjax.stages.kinds import is_table
from recjax.step import Task, TrainState
from recjax.tasks import Click
from recjax.text_objectives import describe_texts


@dataclass(frozen=True)
class Plan:
    """Trainings that differ in their data only: one compiled step serves them all.

    Attributes:
        stage: pretrain, finetune/TASK, finetune/row_click/HEAD.
        arms: that it is run for.
        task: what is trained.
        settings: the section of the config that says how.
        batch: shapes [M, B, ...] of a training batch.
        constants: shapes of what the loss looks up.
    """

    stage: str
    arms: tuple[str, ...]
    task: Task
    settings: ConfigDict
    batch: Shapes
    constants: Shapes


@dataclass(frozen=True)
class Sizes:
    """What the data would tell of themselves; a log has the first part, a table the second.

    Attributes:
        source: where the numbers are from.
        num_items: of the catalogue.
        num_categories: of the catalogue.
        num_rows: of the embedding table of all features.
        slots: of each feature.
        weighted: whether rows of the table are multiplied by values.
    """

    source: str
    num_items: int = 0
    num_categories: int = 0
    num_rows: int = 0
    slots: tuple[int, ...] = ()
    weighted: bool = False


def find_sizes(config: ConfigDict, workdir: str = "") -> Sizes:
    """Returns the sizes of a prepared work directory, or else those of `config.aot`.

    Raises:
        UserError: when a feature of the config is wrong.
    """
    aot, prepared = config.aot, Path(workdir, "prepared") if workdir else None
    if is_table(config):
        return _table_sizes(config, prepared)
    if prepared and (items := prepared / "items.parquet").is_file():
        table = read_items(items)
        count = table.vocab_size - NUM_SPECIALS
        return Sizes(f"{count:,} items, of {items}", count, table.num_categories - 1)
    return Sizes(
        f"{aot.num_items:,} items, by config.aot.num_items", aot.num_items, aot.num_categories
    )


def _table_sizes(config: ConfigDict, prepared: Path | None) -> Sizes:
    if prepared and (path := prepared / "features.json").is_file():
        schema = FeatureSchema.load(path)
        features: list[FeatureConfig] = list(schema.features)
        rows, source = schema.num_rows, str(path)
    else:
        features = make_features(config.prepare.feature, config.prepare.features)
        rows, source = config.aot.num_rows, "config.aot.num_rows"
    if not features:
        raise UserError("config.prepare.features is empty; name at least one feature")
    return Sizes(
        f"{len(features)} features, {rows:,} embedding rows, by {source}",
        num_rows=rows,
        slots=tuple(feature.num_slots for feature in features),
        weighted=any(feature.is_weighted for feature in features),
    )


def plan_trainings(
    config: ConfigDict, sizes: Sizes, stages: tuple[str, ...], platform: str
) -> list[Plan]:
    """Lists the trainings of the stages that train, as the plan of a run would make them.

    Args:
        config: complete.
        sizes: of the data.
        stages: those that run.
        platform: of the devices that will compute: "cpu", "gpu" or "tpu".

    Raises:
        UserError: when the config does not fit together.
    """
    if is_table(config):
        return _plan_heads(config, sizes) if "finetune" in stages else []
    encoder = make_encoder(
        config,
        vocab_size=sizes.num_items + NUM_SPECIALS,
        num_categories=sizes.num_categories + 1,
        platform=platform,
    )
    return _plan_arms(config, encoder, stages)


def _plan_heads(config: ConfigDict, sizes: Sizes) -> list[Plan]:
    plans: list[Plan] = []
    stage, outcomes = f"finetune/{row_heads.task_name_of(config)}", row_heads.outcomes_of(config)
    for arm in row_heads.arms_of(config):
        settings = row_heads.settings_of(config, arm)
        task = row_heads.make_row_task(config, arm, num_rows=sizes.num_rows, slots=sizes.slots)
        batch = row_batch(
            config,
            settings,
            slots=sum(sizes.slots),
            weighted=sizes.weighted,
            num_outcomes=len(outcomes),
        )
        plans.append(Plan(f"{stage}/{arm}", (arm,), task, settings, batch, {}))
    return plans


def _plan_arms(config: ConfigDict, encoder: EncoderConfig, stages: tuple[str, ...]) -> list[Plan]:
    texts = describe_texts(config, encoder.table_rows)
    constants = {"item_category": jax.ShapeDtypeStruct((encoder.table_rows,), jnp.int32)}
    constants |= texts.constants
    plans: list[Plan] = []

    def add(stage: str, arms: tuple[str, ...], task: Task, settings: ConfigDict) -> None:
        batch = log_batch(config, settings, "click" if isinstance(task, Click) else "sequences")
        plans.append(Plan(stage, arms, task, settings, batch, constants))

    for name in trained_generators(config) if "expand" in stages else ():
        generator = make_generator_task(config, encoder, name)
        add(GENERATORS, (name,), generator, config.expansion[name])
    if "pretrain" in stages and config.pretrain.num_steps:
        arms = make_arm_settings(config)
        own = (REAL, *(arm for arm in arms if arms[arm].enters("pretrain")))
        add("pretrain", own, make_pretrain_task(config, encoder, texts), config.pretrain)
    for name in config.finetune.tasks if "finetune" in stages else ():
        head = make_finetune_task(config, encoder, name)
        add(f"finetune/{name}", (REAL, *config.expansion.arms), head, config.finetune[name])
    return plans


def lower_training(config: ConfigDict, plan: Plan, devices: Any) -> tuple[Any, TrainState]:
    """Lowers the step of a training for devices that need not exist; nothing is allocated.

    Args:
        config: complete.
        plan: of the training.
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
    recipe = make_recipe(plan.task, plan.settings, None)
    seeds = jax.ShapeDtypeStruct((config.num_seeds,), jnp.uint32)
    state = jax.eval_shape(recipe.create, jax.eval_shape(recipe.init_params, seeds), seeds)
    try:
        engine = JitEngine(make_mesh(dict(config.parallel.mesh), devices))
        engine.check_rows(plan.settings.batch_size, plan.settings.accumulate_steps)
        state = engine.abstract(state, recipe.logical)
        arguments = (state, plan.batch, plan.constants)
        lowered = engine.lower_step(recipe.step, recipe.logical, *arguments)
    except ValueError as error:
        raise UserError(str(error)) from error
    return lowered, state
