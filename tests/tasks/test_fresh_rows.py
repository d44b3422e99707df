"""Rows of a batch that the HMM draws inside of the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import hmm
from recjax.expansion import FreshUsers
from recjax.expansion.fresh_users import FIELDS
from recjax.losses import CatalogueLoss
from recjax.tasks import FreshRows, NextItem

KNOWN = np.arange(6, 28, dtype=np.int32)
KEYS = jax.random.split(jax.random.key(0), 64)


@pytest.fixture(scope="module")
def fresh():
    rng = np.random.default_rng(0)

    def rows(*shape):
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)

    gap = rows(3, 6) * (np.arange(6) > 0)
    params = hmm.HmmParams(
        start=rows(1, 3),
        transition=rows(3, 3),
        stop=np.full(3, 0.3, np.float32),
        action=rows(3, 4),
        gap=(gap / gap.sum(1, keepdims=True)).astype(np.float32),
        mix=np.zeros(3, np.float32),
        items=hmm.PlainItems(np.ascontiguousarray(rows(3, len(KNOWN)).T)),
        kernel=None,
    )
    return FreshUsers(hmm.make_tables(params), jnp.asarray(KNOWN))


@pytest.fixture(scope="module")
def drawn(fresh):
    draw = jax.jit(lambda keys: fresh.draw_rows(keys, length=12, users_per_row=4))
    return draw, jax.tree.map(np.asarray, draw(KEYS))


def test_rows_hold_the_users_that_the_model_draws(fresh, drawn):
    rows = drawn[1]
    left_out = 0
    for row, key in enumerate(KEYS[:16]):
        users, _ = hmm.draw_users(key, fresh.tables, jnp.arange(4), max_len=12)
        place = 0
        for number in range(4):
            length = int(users.lengths[number])
            if place + length > 12:
                left_out += 1
                break
            at, own = slice(place, place + length), slice(0, length)
            items = KNOWN[users.items[number, own]]
            np.testing.assert_array_equal(rows["items"][row, at], items)
            np.testing.assert_array_equal(rows["actions"][row, at], users.actions[number, own])
            np.testing.assert_array_equal(rows["gaps"][row, at], users.gaps[number, own])
            np.testing.assert_array_equal(rows["positions"][row, at], np.arange(length))
            assert (rows["segments"][row, at] == number + 1).all()
            place += length
        assert not any(rows[name][row, place:].any() for name in FIELDS)
        assert (rows["weights"][row, :place] == 1).all()
    assert left_out > 2, "some rows are full"


def test_a_row_depends_on_its_key_alone(drawn):
    draw, rows = drawn
    again = draw(KEYS[::-1])
    for name in FIELDS:
        np.testing.assert_array_equal(again[name][::-1], rows[name])
    assert (rows["items"][0] != rows["items"][1]).any()


@pytest.mark.slow  # compiles
def test_a_share_of_the_rows_is_drawn_and_the_others_stay(fresh, make_batch, encoder_config):
    batch = make_batch([[5, 4, 3]] * 64) | {"row": jnp.arange(64)}
    mixed = FreshRows(NextItem(encoder_config), 0.25, 4).draw(batch, fresh, KEYS)
    kept = np.asarray((mixed["items"] == batch["items"]).all(axis=1))
    assert 8 <= 64 - kept.sum() <= 24
    for name in (*FIELDS, "row"):
        np.testing.assert_array_equal(mixed[name][kept], batch[name][kept])
        assert mixed[name].dtype == batch[name].dtype
    assert np.isin(mixed["items"][~kept], [0, *KNOWN]).all()


@pytest.mark.slow  # compiles
def test_training_learns_from_drawn_rows_and_judging_does_not(
    fresh, make_batch, encoder_config, constants, init
):
    config = dataclasses.replace(encoder_config, dropout_rate=0.0, attention_dropout_rate=0.0)
    task = NextItem(config, item_loss=CatalogueLoss(loss_chunk=8))
    params, keys = init(task), KEYS[:3]
    batches = [make_batch([[5, 4, 3]] * 3, seed=seed) for seed in (0, 1)]
    wrapped = FreshRows(task, 1.0, 4)

    def run(task, train):
        fixed = {**constants, "fresh": fresh}
        return jax.jit(lambda batch: task.loss(params, batch, fixed, keys=keys, train=train))

    drawn, seen, plain = run(wrapped, True), run(wrapped, False), run(task, True)
    np.testing.assert_array_equal(drawn(batches[0])["next_item"], drawn(batches[1])["next_item"])
    np.testing.assert_allclose(seen(batches[0])["next_item"], plain(batches[0])["next_item"])
    rows = wrapped.draw(batches[0], fresh, keys)
    np.testing.assert_allclose(drawn(batches[0])["next_item"], plain(rows)["next_item"], rtol=1e-6)
    assert jax.tree.structure(wrapped.logical_axes()) == jax.tree.structure(task.logical_axes())
    assert wrapped.held == task.held and wrapped.name == "next_item"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"share": 0.0}, "share must be above 0"), ({"users_per_row": 0}, "at least 1")],
)
def test_settings_out_of_range_are_named(change, message, encoder_config):
    with pytest.raises(ValueError, match=message):
        FreshRows(NextItem(encoder_config), **{"share": 0.5, "users_per_row": 2, **change})
