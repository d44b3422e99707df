"""The learning rate by step: linear warm-up, then the named course."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from recjax.optim.settings import OptimizerConfig


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Returns the learning rate by step, its peak `learning_rate` at the end of the warm-up.

    "linear" and "cosine" fall to zero at `num_steps`; "rsqrt" falls with the root of the step and
    knows no end; "wsd" (warm-up, stable, decay) stays, then falls linearly to zero over the last
    `decay_share` of the steps.

    Reference:
        Vaswani et al. (2017), "Attention Is All You Need", Eq. 3, for rsqrt; Hu et al. (2024),
        "MiniCPM", Eq. 1, for wsd.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    decay_steps = max(1, config.num_steps - warmup)
    falling = max(1, round(config.decay_share * config.num_steps))
    courses: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, decay_steps),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay_steps),
        "rsqrt": lambda: _inverse_root(peak, max(1, warmup)),
        "wsd": lambda: optax.linear_schedule(peak, 0.0, falling, max(0, decay_steps - falling)),
    }
    course = courses[config.schedule]()
    if not warmup:
        return course
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), course], [warmup])


def _inverse_root(peak: float, timescale: int) -> optax.Schedule:
    """Falls as peak x sqrt(timescale / (step + timescale)); step 0 is the end of the warm-up."""

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        return peak * jnp.sqrt(timescale / (jnp.asarray(step, jnp.float32) + timescale))

    return rate
