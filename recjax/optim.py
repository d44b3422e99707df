"""Optimizers and schedules from plain settings; weight decay spares biases, norms and tables."""

from dataclasses import dataclass
from typing import Any

import jax
import optax

_SCHEDULES = ("constant", "linear", "cosine")
_OPTIMIZERS = ("adamw", "adam", "sgd", "adafactor", "lion")


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of one training; names equal the config keys."""

    optimizer: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    num_steps: int
    weight_decay: float
    clip_norm: float
    beta2: float


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then the named decay to zero.

    Raises:
        ValueError: for an unknown schedule.
    """
    decay_steps = max(1, config.num_steps - config.warmup_steps)
    if config.schedule == "constant":
        decay = optax.constant_schedule(config.learning_rate)
    elif config.schedule == "linear":
        decay = optax.linear_schedule(config.learning_rate, 0.0, decay_steps)
    elif config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(config.learning_rate, decay_steps)
    else:
        raise ValueError(f"schedule {config.schedule!r} is unknown; known: {', '.join(_SCHEDULES)}")
    if not config.warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, decay], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns clipping, the optimizer and its decay mask as one transformation.

    Raises:
        ValueError: for an unknown optimizer.
    """
    rate = make_schedule(config)
    decay, mask = config.weight_decay, decays
    makers = {
        "adamw": lambda: optax.adamw(rate, b2=config.beta2, weight_decay=decay, mask=mask),
        "adam": lambda: optax.adam(rate, b2=config.beta2),
        "sgd": lambda: optax.sgd(rate, momentum=0.9),
        "adafactor": lambda: optax.adafactor(
            rate, weight_decay_rate=decay or None, weight_decay_mask=mask
        ),
        "lion": lambda: optax.lion(rate, weight_decay=decay, mask=mask),
    }
    if config.optimizer not in makers:
        raise ValueError(
            f"optimizer {config.optimizer!r} is unknown; known: {', '.join(_OPTIMIZERS)}"
        )
    optimizer = makers[config.optimizer]()
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    return optimizer


def decays(params: Any) -> Any:
    """Returns a tree of bools: True where weight decay applies (kernels of dense layers).

    Biases, norm scales and embedding tables are left alone: a decayed table row shrinks at every
    step in which its item does not occur.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: getattr(path[-1], "key", "") == "kernel", params
    )
