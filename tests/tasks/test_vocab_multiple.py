"""Rows of the item table beyond the vocabulary change nothing."""

import dataclasses

import jax
import numpy as np
from tiny_training import ENCODER, TABLE, TASKS, batches_of

PLAIN = dataclasses.replace(ENCODER, vocab_multiple=1)


def loss_and_gradient(task, batch):
    params = task.init(jax.random.key(0), {})
    constants = {"item_category": TABLE.category_id}

    def loss(params):
        total, weight = task.loss(params, batch, constants, keys=None, train=False)[task.name]
        return total / weight

    return jax.jit(jax.value_and_grad(loss))(params)


def test_rows_beyond_the_vocabulary_take_no_part():
    assert ENCODER.table_rows == 48 > PLAIN.table_rows == TABLE.vocab_size == 45
    task = TASKS["next_item"]
    batch = {name: value[0] for name, value in next(batches_of("next_item")).items()}
    plain_loss, plain = loss_and_gradient(dataclasses.replace(task, encoder=PLAIN), batch)
    loss, gradient = loss_and_gradient(task, batch)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    for tree in (plain, gradient):
        assert tree["head"]["item_bias"].shape[0] == len(
            tree["encoder"]["embedding"]["item"]["table"]
        )
    table = gradient["encoder"]["embedding"]["item"]["table"]
    np.testing.assert_allclose(
        table[:45], plain["encoder"]["embedding"]["item"]["table"], atol=1e-6
    )
    assert not np.any(table[45:]) and not np.any(gradient["head"]["item_bias"][45:])


def test_rows_beyond_the_vocabulary_are_never_ranked():
    task = TASKS["next_item"]
    _, bias = task.item_table(task.init(jax.random.key(0), {}))
    assert np.isneginf(bias[45:]).all() and np.isfinite(bias[:45]).all()
