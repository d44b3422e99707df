import math

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_texts import ENCODER, TEXT, TITLE_LEN, fit, keys_of, losses_of, make_batch

from recjax.tasks import MaskedText

TASK = MaskedText(ENCODER, TEXT, texts_per_row=4, mask_rate=0.3)


@pytest.mark.slow
def test_a_word_is_learned_from_the_other_word_of_the_title():
    _, losses = fit(TASK, 200)
    assert losses["masked_text"] < 0.5 * math.log(25)  # both words hidden now and then


def test_titles_are_of_real_events_of_the_row():
    batch = make_batch()
    batch["items"] = batch["items"].at[0, 1:].set(1)  # [UNK]
    batch["weights"] = batch["weights"].at[1, :7].set(0)
    items, drawn = (np.asarray(x) for x in TASK.draw_items(batch, keys_of()))
    assert drawn.sum(axis=1).tolist() == [1, 1, *[4] * 6]
    assert (items[~drawn] == 0).all()
    rows = np.asarray(batch["items"])
    assert items[0, 0] == rows[0, 0] and items[1, 0] == rows[1, 7]
    for row, mine in zip(rows[2:], items[2:], strict=True):
        assert set(mine) <= set(row) and len(set(mine)) == 4


def test_loss_changes_with_the_key_and_not_with_items_without_title():
    first, again = losses_of(TASK), losses_of(TASK)
    assert first == again != losses_of(TASK, keys=keys_of(seed=1))
    titles = jnp.zeros((ENCODER.table_rows, TITLE_LEN), jnp.int32)
    assert losses_of(TASK, item_tokens=titles) == {"masked_text": (0.0, 0.0)}


def test_documents_of_a_corpus_are_read_beside_the_titles():
    corpus = jnp.tile(jnp.array([[2, 8, 9, 10, 3, 0]], jnp.int32), (3, 1))
    task = MaskedText(ENCODER, TEXT, texts_per_row=4, mask_rate=0.3, with_corpus=True)
    weight = losses_of(task, corpus_tokens=corpus)["masked_text"][1]
    titles = losses_of(task, corpus_tokens=jnp.zeros_like(corpus))["masked_text"][1]
    assert weight - titles >= 8 * 4  # at least a word of each of four documents a row


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mask_rate": 0.0}, "mask_rate must be in"), ({"texts_per_row": 0}, "at least 1, got 0")],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MaskedText(ENCODER, TEXT, **change)
