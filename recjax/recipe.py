"""From a config to encoder, optimizer and the functions of a training; no data.

The experiment trains with these functions; the ahead-of-time compile lowers the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.expansion import ArmSettings, settings_of_arms
from recjax.flops import training_flops
from recjax.losses import CatalogueLoss
from recjax.models import EncoderConfig
from recjax.optim import OptimizerConfig, frozen, make_optimizer
from recjax.step import MEMBER_CONSTANTS, Task, create_state, make_train_step, row_keys
from recjax.tasks import Adaptation

Tree = Any
_SURGERY = ("none", "pcgrad")


@dataclass(frozen=True)
class Recipe:
    """What is done in a training step, before any device is chosen.

    Attributes:
        init_params: uint32 [M] seeds -> tree of [M, ...].
        create: (params, seeds) -> `TrainState`.
        step: (state, batch, constants) -> (state, metrics).
        flops: (batch [M, B, ...], constants) -> operations of a step, nothing run.
        logical: tree of `PartitionSpec` of logical axis names, one per parameter.
    """

    init_params: Callable[[jax.Array], Tree]
    create: Callable[[Tree, jax.Array], Any]
    step: Callable[..., Any]
    flops: Callable[..., float]
    logical: Tree


def make_recipe(task: Task, settings: ConfigDict, axis_name: str | None) -> Recipe:
    """Returns the functions that train a task under the settings of its config section.

    Raises:
        UserError: when a setting is out of range, or freezes what is not there.
    """
    optimizer, rules = optimizer_of(settings, task), (*settings.freeze, *task.held)
    if settings.gradient_surgery not in _SURGERY:
        known = ", ".join(_SURGERY)
        raise UserError(f"gradient_surgery = {settings.gradient_surgery!r}; known: {known}")
    return Recipe(
        init_params=jax.vmap(lambda seed: task.init(jax.random.key(seed), {})),
        create=partial(create_state, optimizer=optimizer, averages=settings.ema_decay > 0),
        step=make_train_step(
            task,
            optimizer,
            axis_name,
            frozen=partial(frozen, rules=rules) if rules else None,
            ema_decay=settings.ema_decay,
            accumulate_steps=settings.accumulate_steps,
            surgery=settings.gradient_surgery == "pcgrad",
        ),
        flops=partial(count_step_flops, task),
        logical=task.logical_axes(),
    )


def count_step_flops(task: Task, batch: Tree, constants: Tree) -> float:
    """Counts the operations of a step's matrix products, those of all members.

    The first member stands for all. Of shapes, losses that skip tokens without a target count as if
    one block of tokens had one.

    Args:
        task: gives the loss.
        batch: arrays or shapes [M, B, ...].
        constants: what the loss looks up.
    """

    def loss(params: Tree, batch: Tree, constants: Tree) -> Tree:
        keys = row_keys(jnp.uint32(0), jnp.int32(0), batch["row"])
        return task.loss(params, batch, constants, keys=keys, train=True)

    params = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    first = {name: _first_member(value) for name, value in batch.items()}
    own = {name: constants[name] for name in MEMBER_CONSTANTS if name in constants}
    constants = {**constants, **jax.tree.map(_first_member, own)}
    return float(len(batch["row"]) * training_flops(loss, params, first, constants))


def _first_member(value: Any) -> Any:
    """Of an array [M, ...] or its shape."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(value.shape[1:], value.dtype)
    return value[0]


def optimizer_of(settings: ConfigDict, task: Task) -> optax.GradientTransformation:
    """Returns the optimizer of a training section for a task's parameters.

    Raises:
        UserError: when a setting is out of range, or freezes what is not there.
    """
    names = OptimizerConfig.__dataclass_fields__
    try:
        if not 0 <= settings.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {settings.ema_decay}")
        config = OptimizerConfig(**{name: settings[name] for name in names})
        config = replace(config, freeze=(*config.freeze, *task.held))
        frozen(jax.eval_shape(lambda: task.init(jax.random.key(0), {})), config.freeze)
    except ValueError as error:
        raise UserError(f"training settings: {error}") from error
    return make_optimizer(config)


def catalogue_loss_of(settings: ConfigDict) -> CatalogueLoss:
    """Returns the loss over items of a training section.

    Raises:
        UserError: when a setting is out of range.
    """
    names = CatalogueLoss.__dataclass_fields__
    try:
        return CatalogueLoss(**{name: settings[name] for name in names})
    except ValueError as error:
        raise UserError(f"config, loss over items: {error}") from error


def make_encoder(
    config: ConfigDict, *, vocab_size: int, num_categories: int, platform: str
) -> EncoderConfig:
    """Returns the encoder's settings for a catalogue of these sizes, specials and none included.

    The platform is that of the devices that will compute: "cpu", "gpu" or "tpu".

    Raises:
        UserError: when a setting of `config.model` is out of range.
    """
    try:
        return EncoderConfig(
            vocab_size=vocab_size,
            num_actions=len(config.data.actions),
            num_gap_bins=config.prepare.num_gap_bins,
            num_categories=num_categories,
            **config.model,
        ).on_platform(platform)
    except ValueError as error:
        raise UserError(f"config.model: {error}") from error


def make_arm_settings(config: ConfigDict) -> dict[str, ArmSettings]:
    """Returns how each arm of `config.expansion` uses its draws.

    Raises:
        UserError: when a setting, or an arm's own, is unknown or out of range.
    """
    expansion = config.expansion
    overrides = {arm: dict(own) for arm, own in expansion.overrides.items()}
    try:
        return settings_of_arms(tuple(expansion.arms), expansion, overrides)
    except ValueError as error:
        raise UserError(f"config.expansion: {error}") from error


def make_adaptation(settings: ConfigDict) -> Adaptation:
    """Returns how a task adapts the encoder, from the `adapt` section of its settings.

    Raises:
        UserError: when a setting is unknown or out of range.
    """
    try:
        return Adaptation(**settings)
    except ValueError as error:
        raise UserError(f"config.finetune: {error}") from error
