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

from recjax.tasks import TextAlignment

TASKS = {
    causal: TextAlignment(ENCODER, TEXT, texts_per_row=4, causal=causal, dim=16)
    for causal in (False, True)
}


@pytest.mark.parametrize("causal", [False, True])
def test_pairs_are_histories_with_the_item_that_follows(causal):
    batch = make_batch()
    batch["segments"] = batch["segments"].at[:, 5:].set(2)
    asked, positions, items, weights = (
        jax.tree.map(np.asarray, part) for part in TASKS[causal].pairs(batch, keys_of())
    )
    used = weights > 0
    assert used.sum(axis=1).tolist() == [4 if causal else 2] * 8
    for row, at, item in zip(*np.nonzero(used), items[used], strict=False):
        place = positions[row, at]
        segment = batch["segments"][row]
        if causal:  # never over the border of a segment
            assert item == batch["items"][row, place + 1]
            assert segment[place] == segment[place + 1]
        else:  # the last event of a segment, hidden
            assert place in (4, 7) and item == batch["items"][row, place]
            assert asked["items"][row, place] == 4
    assert len(set(items[used].tolist())) > 1 and items[used].min() >= 5


@pytest.mark.parametrize(
    ("causal", "num_steps"), [(True, 200), pytest.param(False, 800, marks=pytest.mark.slow)]
)
def test_the_next_title_is_learned_from_behaviour(causal, num_steps):
    _, losses = fit(TASKS[causal], num_steps)
    pairs = 8 * (4 if causal else 1)
    assert losses["text_alignment"] < 0.3 * math.log(pairs)


def test_the_same_item_twice_is_no_negative():
    batch = make_batch()
    same = jnp.broadcast_to(batch["items"][:1], batch["items"].shape)  # all rows alike
    assert losses_of(TASKS[False], items=same)["text_alignment"][0] < 1e-5
    assert losses_of(TASKS[False])["text_alignment"][0] > 1


def test_items_without_title_and_other_keys():
    task = TASKS[True]
    assert losses_of(task) == losses_of(task) != losses_of(task, keys=keys_of(seed=1))
    titles = make_constants()["item_tokens"].at[5 : 5 + NUM_ITEMS // 2].set(0)
    some = losses_of(task, item_tokens=titles)["text_alignment"][1]
    assert 0 < some < losses_of(task)["text_alignment"][1]
    none = jnp.zeros((ENCODER.table_rows, TITLE_LEN), jnp.int32)
    assert losses_of(task, item_tokens=none)["text_alignment"] == (0.0, 0.0)


def test_temperature_starts_at_clips_and_is_bounded():
    task = TASKS[False]
    params = init(task)
    np.testing.assert_allclose(np.exp(params["head"]["log_scale"]), 1 / 0.07, rtol=1e-6)

    def loss_at(log_scale):
        head = params["head"] | {"log_scale": jnp.float32(log_scale)}
        return losses_of(task, params | {"head": head})["text_alignment"][0]

    assert loss_at(math.log(100)) == loss_at(50.0) != loss_at(0.0)
