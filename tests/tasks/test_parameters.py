import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from recjax.tasks import Click, MaskedItem, NextItem, transfer


@pytest.mark.parametrize("task_class", [MaskedItem, NextItem, Click])
def test_logical_axes_fit_the_parameters(encoder_config, task_class):
    task = task_class(encoder_config)
    params = jax.eval_shape(task.init, jax.random.key(0))
    axes = task.logical_axes()
    pairs = jax.tree.map(lambda leaf, spec: (leaf, spec), params, axes)
    leaves = jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple))
    for leaf, spec in leaves:
        assert isinstance(spec, PartitionSpec)
        assert len(spec) in (0, len(leaf.shape)) and leaf.dtype == jnp.float32
    assert axes["encoder"]["embedding"]["item"]["table"] == PartitionSpec("vocab", "embed")


def test_transfer_takes_the_encoder_and_leaves_the_head(encoder_config, init):
    pretrained = init(MaskedItem(encoder_config))
    for task in (NextItem(encoder_config), Click(encoder_config, hidden_dims=(8,))):
        fresh = init(task, seed=1)
        out = transfer(pretrained, fresh)
        assert jax.tree.structure(out) == jax.tree.structure(fresh)
        jax.tree.map(np.testing.assert_array_equal, out["encoder"], pretrained["encoder"])
        jax.tree.map(np.testing.assert_array_equal, out["head"], fresh["head"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 31}, r"embedding/item/table is \(30, 16\).*\(31, 16\)"),
        ({"inputs": ("item", "position")}, "embedding/action/table is in the pretrained"),
        ({"num_layers": 2}, "layers_1.* is in the new"),
    ],
)
def test_transfer_names_the_parameter_that_does_not_fit(encoder_config, change, message):
    init = lambda config: jax.eval_shape(NextItem(config).init, jax.random.key(0))  # noqa: E731
    changed = dataclasses.replace(encoder_config, **change)
    with pytest.raises(ValueError, match=message):
        transfer(init(encoder_config), init(changed))
