"""Parameter-efficient tuning: few new parameters learn, the encoder's own stay as pretrained.

The new ones lie beside the encoder, under "adapt", so that the encoder's tree is the same for all
tasks. Low-rank pairs are added to kernels before the forward pass, and no model code knows of them;
adapters and prefixes are modules of `recjax.models.adapters`. Called by
`recjax.tasks.encoder_task`.
"""

import dataclasses
import math
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from recjax.models import EncoderConfig
from recjax.models.kernels import KernelAxes, kernel_axes
from recjax.tasks.parameters import init_encoder, unbox

Tree = Any
METHODS = ("none", "lora", "adapter", "prefix")


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """How a task adapts a pretrained encoder; names equal the keys of `adapt`.

    Attributes:
        method: one of `METHODS`; with "none" the encoder itself is trained.
        rank: lora: rank r of the pairs.
        alpha: lora: a pair is scaled by alpha / rank.
        targets: lora: regular expressions of whole paths of kernels, from the encoder on.
        dim: adapter: width of the bottleneck.
        length: prefix: learned positions per layer.

    Raises:
        ValueError: if a setting is unknown or out of range, naming it.

    Reference:
        Hu et al. (2021), "LoRA", Eq. 3; for the others see `recjax.models.adapters`.
    """

    method: str = "none"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = (".*/(query_key_value|gate_value_query_key|output)/kernel",)
    dim: int = 16
    length: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.method not in METHODS:
            raise ValueError(
                f"adapt.method {self.method!r} is unknown; known: {', '.join(METHODS)}"
            )
        for name in ("rank", "dim", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"adapt.{name} must be at least 1, got {getattr(self, name)}")

        for target in self.targets:
            try:
                re.compile(target)
            except re.error as error:
                raise ValueError(
                    f"adapt.targets: {target!r} is no regular expression: {error}"
                ) from error

    @property
    def held(self) -> tuple[str, ...]:
        """Rules of the parameters that stay as they are."""
        return () if self.method == "none" else ("encoder/.*",)

    def extend(self, encoder: EncoderConfig) -> EncoderConfig:
        """Returns the encoder's settings with the modules that the method adds."""
        return dataclasses.replace(
            encoder,
            adapter_dim=self.dim if self.method == "adapter" else 0,
            prefix_len=self.length if self.method == "prefix" else 0,
        )

    def merge(self, encoder: Tree, adapt: Tree) -> Tree:
        """Returns what `extend`'s encoder is applied with: the encoder's tree and the new parts."""
        if self.method == "lora":
            return _add_pairs(encoder, adapt, self.alpha / self.rank, "encoder")
        return _together(encoder, adapt)


def init_adapt(settings: Adaptation, config: EncoderConfig, encoder: Tree, key: jax.Array) -> Tree:
    """Returns the boxed new parameters of a method that is not "none".

    Args:
        settings: the method and its size.
        config: of the encoder without them.
        encoder: its boxed parameters.
        key: PRNG key.

    Raises:
        ValueError: if a target matches no kernel, or the encoder has no place for the method.
    """
    if settings.method == "lora":
        return init_pairs(unbox(encoder), settings, key)
    rest = beyond(init_encoder(settings.extend(config), key), encoder)
    if not rest:
        raise ValueError(f"adapt.method = {settings.method!r} has no place in this encoder")
    return rest


def init_pairs(encoder: Tree, settings: Adaptation, key: jax.Array) -> Tree:
    """Returns low-rank pairs {"a", "b"} under the paths of the kernels that they are added to.

    Args:
        encoder: the encoder's parameters, unboxed.
        settings: rank and targets are read.
        key: PRNG key; a kernel's pair depends on it and on the kernel's path.

    Raises:
        ValueError: if a target matches no kernel.
    """
    leaves = jax.tree_util.tree_flatten_with_path(encoder)[0]
    names = [["encoder", *(str(part.key) for part in path)] for path, _ in leaves]
    pairs: dict[str, Any] = {}
    for target in settings.targets:
        found = [at for at, name in enumerate(names) if _is_target(target, name, leaves[at][1])]
        if not found:
            kernels = ["/".join(name) for name in names if name[-1] == "kernel"]
            raise ValueError(
                f"adapt.targets: {target!r} matches no kernel; kernels are {', '.join(kernels)}"
            )
        for at in found:
            place = pairs
            for part in names[at][1:]:
                place = place.setdefault(part, {})
            place |= _init_pair("/".join(names[at]), leaves[at][1], settings.rank, key)
    return pairs


def beyond(extended: Tree, base: Tree) -> Tree:
    """Returns the parts of a nested dict that another one does not have."""
    rest = {}
    for name, part in extended.items():
        if name not in base:
            rest[name] = part
        elif isinstance(part, dict) and (inner := beyond(part, base[name])):
            rest[name] = inner
    return rest


def _together(base: Tree, rest: Tree) -> Tree:
    """Undoes `beyond`."""
    inner = {name: _together(base[name], part) for name, part in rest.items() if name in base}
    return {**base, **rest, **inner}


def _is_target(target: str, name: list[str], leaf: Any) -> bool:
    path = "/".join(name)
    if name[-1] != "kernel" or kernel_axes(path, leaf.ndim) is None:
        return False
    return re.fullmatch(target, path) is not None


def _init_pair(path: str, kernel: Any, rank: int, key: jax.Array) -> dict[str, jax.Array]:
    """A is drawn, B is zero: the product starts at zero."""
    stack, inputs, outputs = (_sizes(kernel, axes) for axes in _axes(path, kernel))
    fan_in, fan_out = math.prod(inputs), math.prod(outputs)
    key = jax.random.fold_in(key, zlib.crc32(path.encode()))
    a = jax.random.normal(key, (*stack, fan_in, rank), jnp.float32) * fan_in**-0.5
    return {"a": a, "b": jnp.zeros((*stack, rank, fan_out), jnp.float32)}


def _add_pairs(tree: Tree, pairs: Tree, scale: float, path: str) -> Tree:
    """Adds scale x A B to each kernel that has a pair."""
    if not isinstance(tree, dict):
        return tree + scale * _product(tree, pairs, path)
    return tree | {
        name: _add_pairs(tree[name], part, scale, f"{path}/{name}") for name, part in pairs.items()
    }


def _product(kernel: jax.Array, pair: dict[str, jax.Array], path: str) -> jax.Array:
    """A B in the kernel's shape."""
    order = sum(_axes(path, kernel), ())
    product = (pair["a"] @ pair["b"]).reshape(_sizes(kernel, order))
    return product.transpose([order.index(axis) for axis in range(kernel.ndim)])


def _axes(path: str, kernel: Any) -> KernelAxes:
    axes = kernel_axes(path, kernel.ndim)
    assert axes is not None, path
    return axes


def _sizes(kernel: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(kernel.shape[axis] for axis in axes)
