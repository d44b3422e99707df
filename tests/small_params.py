"""A tree of parameters like a task's, small enough for brute force, with gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.models import stack_layers
from recjax.optim import OptimizerConfig

CONFIG = OptimizerConfig(
    optimizer="adamw",
    learning_rate=0.1,
    schedule="constant",
    warmup_steps=0,
    num_steps=10,
    weight_decay=0.01,
    clip_norm=0.0,
    beta2=0.98,
)


def make_params(seed=0):
    """Two layers, an item table of 5 rows, a head."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def layer():
        attention = {"query_key_value": {"kernel": draw(4, 3, 2, 2), "bias": draw(3, 2, 2)}}
        attention["output"] = {"kernel": draw(2, 2, 4)}
        return {
            "attention": attention,
            "mlp_in": {"kernel": draw(4, 6)},
            "norm": {"scale": draw(4)},
        }

    encoder = {"embedding": {"item": {"table": draw(5, 4)}}, "layers_0": layer()}
    return {"encoder": encoder | {"layers_1": layer()}, "head": {"item_bias": draw(5)}}


def scanned(params):
    """The same with the layers on a leading axis."""
    return {**params, "encoder": stack_layers(params["encoder"])}


def flat(tree):
    """Leaves by the name of their path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }


def moved(before, after):
    """Names of the leaves that are not the same bits."""
    before, after = flat(before), flat(after)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}
