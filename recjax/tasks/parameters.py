"""Parameters of tasks: made, described for sharding, handed from one task to the next."""

import abc
import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models import EncoderConfig, EventEncoder

Params = dict[str, Any]
Batch = dict[str, jax.Array]


class WithParams(abc.ABC):
    """What has parameters of its own: boxed ones give both the fresh ones and how they are cut."""

    def init(self, key: jax.Array, batch: Batch | None = None) -> Params:
        """Returns fresh float32 parameters; the batch and its shape are irrelevant."""
        del batch
        return cast(Params, unbox(self._init_boxed(key)))

    def logical_axes(self) -> Any:
        """Returns the tree of `PartitionSpec` with logical axis names that fits `init`'s."""
        return logical_specs(jax.eval_shape(self._init_boxed, jax.random.key(0)))

    @abc.abstractmethod
    def _init_boxed(self, key: jax.Array) -> Any:
        """Returns fresh parameters with their logical axis names."""


def init_encoder(config: EncoderConfig, key: jax.Array) -> Any:
    """Returns boxed encoder parameters; they do not depend on a batch's shape."""
    config = dataclasses.replace(config, attention="xla")  # which takes a row of any length
    ids = jnp.zeros((1, 2), jnp.int32)
    batch = {name: ids for name in ("items", "actions", "gaps", "positions", "segments")}
    constants = {"item_category": jnp.zeros(config.vocab_size, jnp.int32)}
    return EventEncoder(config).init(key, batch, constants, True)["params"]


def unbox(boxed: Any) -> Any:
    """Strips the logical axis names off, without the sharding constraints they could apply."""
    return jax.tree.map(
        lambda leaf: leaf.value if _is_boxed(leaf) else leaf, boxed, is_leaf=_is_boxed
    )


def logical_specs(boxed: Any) -> Any:
    """Returns a tree of `PartitionSpec` with logical axis names, one per parameter."""
    return nn.get_partition_spec(boxed)


def transfer(pretrained_params: Params, fresh_params: Params) -> Params:
    """Returns `fresh_params` with the encoder of `pretrained_params`; the head stays fresh.

    A leading member axis is fine as long as both trees have it.

    Args:
        pretrained_params: {"encoder", "head"} of any task.
        fresh_params: {"encoder", "head"} of the task to start.

    Raises:
        ValueError: if the encoders' parameters differ in name or shape, naming the first one.
    """
    old = leaves_by_name(pretrained_params["encoder"])
    new = leaves_by_name(fresh_params["encoder"])
    for name in sorted(old.keys() ^ new.keys()):
        where = "pretrained" if name in old else "new"
        raise ValueError(f"encoder parameter {name} is in the {where} model only: inputs differ?")
    for name, leaf in new.items():
        if old[name].shape != leaf.shape:
            raise ValueError(
                f"encoder parameter {name} is {old[name].shape} in the pretrained model, "
                f"{leaf.shape} in the new one: sizes of the model section must be equal"
            )
    return {**fresh_params, "encoder": pretrained_params["encoder"]}


def leaves_by_name(tree: Any) -> dict[str, jax.Array]:
    """Returns the leaves of nested dicts by their paths, "a/b"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(part.key) for part in path): leaf for path, leaf in leaves}


def _is_boxed(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)
