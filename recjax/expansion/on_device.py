"""What is done to a batch inside the train step: adversarial shifts of embedded inputs.

Pure functions of arrays; a task that has its input embedded before it is encoded calls them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

METHODS = ("none", "fgm", "pgd")
_STEP_OVER_MEAN = 2.5  # a step of pgd over the radius per step, so that it can go round the ball
_EPSILON = 1e-12


@dataclass(frozen=True)
class Adversary:
    """Shifts inputs to where the loss is higher; training on both makes the model smooth there.

    Attributes:
        method: "none"; "fgm", one step along the gradient; "pgd", several small ones.
        size: radius, as a share of the norm of a row's own input.
        steps: of pgd.
        weight: of the loss on shifted inputs, beside that on the inputs as they are.

    Raises:
        ValueError: if a setting is unknown or out of range, naming it.

    Reference:
        Miyato, Dai and Goodfellow (2017), "Adversarial Training Methods for Semi-Supervised Text
        Classification", for fgm; Madry et al. (2018), "Towards Deep Learning Models
        Resistant to Adversarial Attacks", Eq. 2.1, for pgd.
    """

    method: str = "none"
    size: float = 0.1
    steps: int = 3
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.method not in METHODS:
            raise ValueError(f"method = {self.method!r}; known: {', '.join(METHODS)}")
        for name, least in (("size", 0), ("steps", 1), ("weight", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}; it must be at least {least}")

    @property
    def acts(self) -> bool:
        """Whether there is anything to do."""
        return self.method != "none"

    def shift(self, loss: Callable[[jax.Array], jax.Array], inputs: jax.Array) -> jax.Array:
        """Returns what to add to inputs [B, ...], same shape, without a gradient.

        A row whose loss does not depend on its input is not shifted.

        Args:
            loss: shift [B, ...] -> scalar, a sum over rows that do not see each other.
            inputs: float [B, ...], embedded.
        """
        radius = self.size * _row_norms(inputs)
        steps, reach = (1, 1.0) if self.method == "fgm" else (self.steps, _STEP_OVER_MEAN)
        shift = jnp.zeros_like(inputs)
        for _ in range(steps):
            gradient = jax.grad(loss)(shift)
            ahead = gradient / jnp.maximum(_row_norms(gradient), _EPSILON)
            shift = _into_ball(shift + reach / steps * radius * ahead, radius)
        return jax.lax.stop_gradient(shift)


def _row_norms(x: jax.Array) -> jax.Array:
    """Norms of the rows of [B, ...], as [B, 1, ...]."""
    axes = tuple(range(1, x.ndim))
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(axis=axes, keepdims=True)).astype(x.dtype)


def _into_ball(shift: jax.Array, radius: jax.Array) -> jax.Array:
    return shift * jnp.minimum(1, radius / jnp.maximum(_row_norms(shift), _EPSILON))
