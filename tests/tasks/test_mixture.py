import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.tasks import MaskedItem, Mixture, NextItem
from recjax.tasks.encoder_task import EncoderTask

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]


@dataclasses.dataclass(frozen=True)
class Offset(EncoderTask):
    """A second objective with a parameter of its own: its loss is that parameter."""

    name: ClassVar[str] = "offset"

    def loss(self, params, batch, constants, *, keys, train):
        return {self.name: (params["head"]["offset"] * batch["weights"].sum(), jnp.float32(1))}

    def _init_head(self, key):
        return {"offset": jax.random.uniform(key)}


def _init(task):
    return jax.jit(task.init)(jax.random.key(0))


def test_losses_are_those_of_the_objectives_times_their_weights(
    encoder_config, make_batch, constants
):
    item, batch = MaskedItem(encoder_config), make_batch(LENGTHS)
    mixture = Mixture(encoder_config, (item, Offset(encoder_config)), (0.5, 2.0))
    params = _init(mixture)
    params["head"]["masked_item"]["item_bias"] = jax.random.normal(jax.random.key(1), (30,))

    @jax.jit
    def losses(params):
        own = {"encoder": params["encoder"], "head": params["head"]["masked_item"]}
        return [
            task.loss(part, batch, constants, keys=None, train=False)
            for task, part in ((mixture, params), (item, own))
        ]

    found, alone = losses(params)
    assert list(found) == ["masked_item", "offset"]
    np.testing.assert_allclose(found["masked_item"][0], 0.5 * alone["masked_item"][0], rtol=1e-6)
    assert found["masked_item"][1] == alone["masked_item"][1]
    expected = 2 * params["head"]["offset"]["offset"] * batch["weights"].sum()
    np.testing.assert_allclose(found["offset"][0], expected, rtol=1e-6)


def test_axes_fit_the_parameters_and_a_head_does_not_depend_on_the_others(encoder_config):
    item, offset = MaskedItem(encoder_config), Offset(encoder_config)
    both = Mixture(encoder_config, (item, offset), (1, 1))
    swapped = Mixture(encoder_config, (offset, item), (1, 1))
    one, other = _init(both), _init(swapped)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert jax.tree.structure(both.logical_axes()["head"]) == jax.tree.structure(one["head"])


@pytest.mark.parametrize("objective", [MaskedItem, NextItem])
def test_mixture_ranks_as_next_item_with_its_reading_and_bias(
    encoder_config, make_batch, constants, objective
):
    lengths = [3, 12, 0, 1]
    batch = make_batch([[n] if n else [] for n in lengths]) | {"lengths": jnp.asarray(lengths)}
    mixture = Mixture(encoder_config, (objective(encoder_config), Offset(encoder_config)), (1, 1))
    params = _init(mixture)
    bias = jax.random.normal(jax.random.key(1), (30,))
    params["head"][objective.name]["item_bias"] = bias
    single = NextItem(encoder_config, causal=objective is NextItem)
    assert mixture.causal == single.causal
    queries = [jax.jit(task.queries)(params, batch, constants) for task in (mixture, single)]
    np.testing.assert_array_equal(*queries)
    np.testing.assert_array_equal(mixture.item_table(params)[1], bias)


@pytest.mark.parametrize(
    ("objectives", "weights", "message"),
    [
        ((MaskedItem, NextItem), (1, 1), "found masked_item and next_item"),
        ((Offset,), (1,), "exactly one of masked_item .* found none"),
        ((MaskedItem, Offset), (1, -1), "weight of offset must be above 0, got -1"),
    ],
)
def test_mixture_that_cannot_be_is_refused(encoder_config, objectives, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(encoder_config, tuple(task(encoder_config) for task in objectives), weights)
