"""What is done to a batch inside the train step: noise, mixtures, adversarial shifts.

Pure functions of arrays; a task that has its input embedded before it is encoded calls them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

METHODS = ("none", "fgm", "pgd")
_PROBE = 0.1  # of the radius: how far out the direction of a virtual shift is looked for
_STEP_OVER_MEAN = 2.5  # a step of pgd over the radius per step, so that it can go round the ball
_EPSILON = 1e-12


def _check_least(settings: object, prefix: str, **least: float) -> None:
    for name, limit in least.items():
        value = getattr(settings, name)
        if not value >= limit:
            raise ValueError(f"{prefix}{name} = {value}; it must be at least {limit}")


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
        _check_least(self, "", size=0, steps=1, weight=0)

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
            ahead = _ahead(jax.grad(loss)(shift))
            shift = _into_ball(shift + reach / steps * radius * ahead, radius)
        return jax.lax.stop_gradient(shift)


@dataclass(frozen=True)
class VirtualAdversary:
    """Shifts inputs to where the model's own answer changes most; it asks for no label.

    Attributes:
        weight: of the divergence of the answer there from that of the inputs as they are; 0 = off.
        size: radius, as a share of the norm of a row's own input.
        items: items drawn per row, among which, and the row's targets, answers are compared.

    Raises:
        ValueError: if a setting is out of range, naming it.

    Reference:
        Miyato et al. (2019), "Virtual Adversarial Training: A Regularization Method for Supervised
        and Semi-Supervised Learning", Eq. 5 to 8 and 15, one power iteration.
    """

    weight: float = 0.0
    size: float = 0.1
    items: int = 64

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_least(self, "virtual_", weight=0, size=0, items=1)

    def shift(
        self, keys: jax.Array, divergence: Callable[[jax.Array], jax.Array], inputs: jax.Array
    ) -> jax.Array:
        """Returns what to add to inputs [B, ...], same shape, without a gradient.

        Args:
            keys: typed PRNG keys [B], of the directions that the search begins with.
            divergence: shift [B, ...] -> scalar, a sum over rows that do not see each other; it is
                0, and flat, where the shift is 0.
            inputs: float [B, ...], embedded.
        """
        radius = self.size * _row_norms(inputs)
        start = _ahead(_row_normal(keys, inputs))
        return jax.lax.stop_gradient(radius * _ahead(jax.grad(divergence)(_PROBE * radius * start)))


@dataclass(frozen=True)
class InStep:
    """What a training does in the step beside the loss on events as they are; all off by default.

    Attributes:
        noise_size: standard deviation of normal noise on the numbers of an embedded event, as a
            share of their root mean square.
        mixup_alpha: above 0, what is known at an event, and its target, are mixed with those at
            another event of the row, in shares drawn from Beta(alpha, alpha).
        adversary: whether shifted inputs of a higher loss are trained on as well.
        virtual: whether the answer has to stay where it changes most.

    Raises:
        ValueError: if a setting is out of range, naming it.

    Reference:
        Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization", Eq. 1; Verma et al.
        (2019), "Manifold Mixup", for mixing what is known instead of inputs: rows hold users
        of different lengths, whose events do not lie side by side.
    """

    noise_size: float = 0.0
    mixup_alpha: float = 0.0
    adversary: Adversary = Adversary()
    virtual: VirtualAdversary = VirtualAdversary()

    def __post_init__(self) -> None:
        """Checks the settings."""
        _check_least(self, "", noise_size=0, mixup_alpha=0)

    def add_noise(self, keys: jax.Array | None, x: jax.Array) -> jax.Array:
        """Returns embedded events float [B, T, D] with noise, as they are where it is off.

        Args:
            keys: typed PRNG keys [B], None for no noise.
            x: float [B, T, D].
        """
        if keys is None or not self.noise_size:
            return x
        scale = jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))
        return x + self.noise_size * jax.lax.stop_gradient(scale) * _row_normal(keys, x)

    def draw_mixture(self, keys: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns with which other place each is mixed, and its own share, [B, S] each.

        Args:
            keys: typed PRNG keys [B].
            weights: float32 [B, S], of the targets; a place with 0 is not mixed.
        """

        def row(key: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
            first, second = jax.random.split(key)
            partners = jax.random.permutation(first, len(weights)).astype(jnp.int32)
            share = jax.random.beta(second, self.mixup_alpha, self.mixup_alpha)
            both = (weights > 0) & (jnp.take(weights, partners) > 0)
            return partners, jnp.where(both, share, 1.0)

        return jax.vmap(row)(keys, weights)


def _row_normal(keys: jax.Array, like: jax.Array) -> jax.Array:
    """Standard normal numbers of the shape [B, ...]; row b depends on keys[b] alone."""
    draw = jax.vmap(lambda key: jax.random.normal(key, like.shape[1:]))
    return draw(keys).astype(like.dtype)


def _ahead(direction: jax.Array) -> jax.Array:
    """Rows [B, ...] at length 1; those of length 0 stay."""
    return direction / jnp.maximum(_row_norms(direction), _EPSILON)


def _row_norms(x: jax.Array) -> jax.Array:
    """Norms of the rows of [B, ...], as [B, 1, ...]."""
    axes = tuple(range(1, x.ndim))
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(axis=axes, keepdims=True)).astype(x.dtype)


def _into_ball(shift: jax.Array, radius: jax.Array) -> jax.Array:
    return shift * jnp.minimum(1, radius / jnp.maximum(_row_norms(shift), _EPSILON))
