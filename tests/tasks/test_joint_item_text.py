import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_texts import (
    ENCODER,
    NUM_ITEMS,
    TEXT,
    TITLE_LEN,
    fit,
    init,
    keys_of,
    losses_of,
    make_batch,
    make_constants,
)

from recjax.losses import CatalogueLoss
from recjax.tasks import JointItemText

# every word is hidden: what is learned of a title comes from its item alone
TASK = JointItemText(ENCODER, TEXT, texts_per_row=4, mask_rate=1.0)
ITEM, WORDS = "joint_item_text/item", "joint_item_text/words"


@pytest.fixture(scope="module")
def trained():
    return fit(TASK, 300)


def test_items_are_learned_from_titles_and_titles_from_items(trained):
    losses = trained[1]
    assert losses[ITEM] < 0.4 * math.log(NUM_ITEMS)
    assert losses[WORDS] < 0.4 * math.log(25)


@pytest.mark.slow
def test_the_item_in_view_is_what_tells_the_words(trained):
    params, constants = trained[0], make_constants()
    told = losses_of(TASK, params)
    turned = jnp.roll(constants["item_tokens"][5 : 5 + NUM_ITEMS], 1, axis=0)
    wrong = constants["item_tokens"].at[5 : 5 + NUM_ITEMS].set(turned)  # everyone's title is false
    lied = losses_of(TASK, params, item_tokens=wrong)
    for name in (ITEM, WORDS):
        assert lied[name][1] == told[name][1] > 0
        assert lied[name][0] > 3 * told[name][0]


def test_gradient_reaches_the_item_table_that_behaviour_shares():
    def words(params):
        inputs = make_batch(), make_constants()
        return TASK.loss(params, *inputs, keys=keys_of(), train=False)[WORDS][0]

    gradient = jax.jit(jax.grad(words))(init(TASK))
    table = np.asarray(gradient["encoder"]["embedding"]["item"]["table"])
    assert np.abs(table[5 : 5 + NUM_ITEMS]).sum() > 0


def test_sampled_losses_take_the_place_of_the_full_one():
    task = dataclasses.replace(TASK, item_loss=CatalogueLoss("sampled", num_negatives=4))
    params = jax.eval_shape(task.init, jax.random.key(0))
    loss = functools.partial(task.loss, keys=keys_of(), train=True)
    total, weight = jax.eval_shape(loss, params, make_batch(), make_constants())[ITEM]
    assert total.shape == weight.shape == ()


def test_each_text_asks_one_side_and_the_key_says_which():
    found, other = losses_of(TASK), losses_of(TASK, keys=keys_of(seed=1))
    assert found[ITEM][1] + found[WORDS][1] / 3 == 32  # texts: one item, or three pieces
    assert found[ITEM][1] != other[ITEM][1]
    no_titles = losses_of(TASK, item_tokens=jnp.zeros((ENCODER.table_rows, TITLE_LEN), jnp.int32))
    assert no_titles == {ITEM: (0.0, 0.0), WORDS: (0.0, 0.0)}
