import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.tasks import ItemAttribute, MaskedAttribute, MaskedItem

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]


def _expected(params, vectors, items, weights, constants):
    kernel, bias = (params["head"]["dense"][name] for name in ("kernel", "bias"))
    category = constants["item_category"][items]
    logits = vectors @ kernel + bias[None, None]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, category)
    weights = jnp.where(category > 0, weights, 0)
    return (losses * weights).sum(), weights.sum()


def test_masked_attribute_asks_for_the_categories_of_hidden_events(
    encoder_config, make_batch, constants
):
    task, batch = MaskedAttribute(encoder_config, mask_rate=0.4), make_batch(LENGTHS)
    constants["item_category"] = constants["item_category"].at[7].set(0)  # of no category
    batch["items"] = batch["items"].at[1].set(7)
    params, keys = jax.jit(task.init)(jax.random.key(0)), jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def run(params, batch):
        masking = MaskedItem(encoder_config, mask_rate=0.4)
        masked, positions, items, weights = masking.mask(batch, keys)
        hidden = task.encode(params, masked, constants, causal=False)
        hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
        loss = task.loss(params, batch, constants, keys=keys, train=False)[task.name]
        return loss, _expected(params, hidden, items, weights, constants)

    found, expected = run(params, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0 < float(found[1])
    many = jax.jit(dataclasses.replace(task, mask_rate=0.9).loss, static_argnames="train")
    other = many(params, batch, constants, keys=keys, train=False)[task.name]
    assert float(other[1]) > float(found[1])


def test_item_attribute_sees_the_item_table_only(encoder_config, make_batch, constants):
    task, batch = ItemAttribute(encoder_config), make_batch(LENGTHS)
    params = jax.jit(task.init)(jax.random.key(0))

    @jax.jit
    def run(params, batch):
        def total(params):
            return task.loss(params, batch, constants, keys=None, train=True)[task.name]

        return jax.value_and_grad(total, has_aux=True)(params)

    (found, weight), slopes = run(params, batch)
    table = params["encoder"]["embedding"]["item"]["table"]
    expected = _expected(params, table[batch["items"]], batch["items"], batch["weights"], constants)
    np.testing.assert_allclose((found, weight), expected, rtol=1e-5)
    touched = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, slope in jax.tree_util.tree_flatten_with_path(slopes)[0]
        if np.abs(slope).max() > 0
    }
    head = {"head/dense/kernel", "head/dense/bias"}
    assert touched == {"encoder/embedding/item/table", *head}


@pytest.mark.parametrize("kind", [MaskedAttribute, ItemAttribute])
def test_catalogue_without_categories_is_refused(encoder_config, kind):
    encoder = dataclasses.replace(encoder_config, num_categories=1)
    with pytest.raises(ValueError, match=f"{kind.name} needs a catalogue with categories"):
        kind(encoder)
