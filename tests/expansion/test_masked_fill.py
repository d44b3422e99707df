"""What `masked_fill` hides, adds and keeps, and that the model sees what is there by then."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.transforms import gaps_of_times
from recjax.expansion.generate import MaskedFill, MaskedModel
from recjax.expansion.generate.masked_fill import fill_items
from recjax.expansion.strategy import ExpansionData

NUM_ROWS = 65


def _alike(params, batch, places):
    return jnp.zeros((len(places), NUM_ROWS))


def _model(score=_alike, mask_share=0.4, insert_share=0.4, **others):
    settings = {"temperature": 1.0, "top_k": 0, **others}
    return MaskedModel(score, {}, NUM_ROWS, 16, 16, mask_share, insert_share, **settings)


def _draw(real_log, model, n=64):
    data = ExpansionData(real_log, 1800, 5, 16, load_masked=lambda seed: model)
    state = MaskedFill().fit(data, 0)
    records = MaskedFill().draw(jax.random.key(0), state, n, 0)
    users = {record["user"]: record for record in real_log}
    return [(users[record["user"]], record) for record in records]


def _is_in_order(events, among):
    rest = iter(among)
    return all(event in rest for event in events)


def _stamps(record):
    return list(zip(record["times"].tolist(), record["actions"].tolist(), strict=True))


def test_hidden_events_get_other_items_and_keep_action_and_time(real_log):
    changed = 0
    for real, record in _draw(real_log, _model(insert_share=0.0)):
        length = len(real["items"])
        assert 2 <= length <= 5
        for field in ("actions", "times", "sessions"):
            np.testing.assert_array_equal(record[field], real[field])
        differs = (record["items"] != real["items"]).sum()
        assert differs == min(max(round(0.4 * length), 0), length - 1) > 0
        changed += differs
    assert changed > 64


def test_new_events_stand_between_real_ones_that_stay(real_log):
    for real, record in _draw(real_log, _model(mask_share=0.0)):
        length, new = len(real["items"]), len(record["items"]) - len(real["items"])
        assert new == min(max(round(0.4 * length), 1), length - 1)
        assert (record["times"][[0, -1]] == real["times"][[0, -1]]).all()
        assert _is_in_order(real["items"], record["items"])
        assert _is_in_order(_stamps(real), _stamps(record))
        assert set(record["actions"]) <= set(real["actions"])


def test_places_are_filled_in_random_order_each_in_view_of_those_before():
    """A model that answers with the number of places that are still hidden."""

    def count_hidden(params, batch, places):
        rows = jnp.arange(len(places))
        is_asked = batch["hidden"][rows, places]
        return 1e4 * jax.nn.one_hot(jnp.where(is_asked, 5 + batch["hidden"].sum(1), 0), NUM_ROWS)

    order = np.full((400, 6), 2.0, np.float32)
    order[:, 1:5] = np.random.default_rng(0).random((400, 4))
    keys = jax.random.split(jax.random.key(0), 400)
    batch = {"items": jnp.full((400, 6), 60)}
    items = fill_items(
        keys, {}, batch, jnp.asarray(order), jnp.arange(NUM_ROWS) >= 5, 1.0,
        score=count_hidden, top_k=0,
    )  # fmt: skip
    filled = np.asarray(items)
    assert (filled[:, [0, 5]] == 60).all()
    assert (np.sort(filled[:, 1:5], axis=1) == np.arange(6, 10)).all()
    np.testing.assert_array_equal(np.argsort(order[:, 1:5]), np.argsort(-filled[:, 1:5]))


def test_model_reads_what_the_record_says(real_log):
    """A model whose answer is made of action, gap, place and length; each must be the record's."""

    def score(params, batch, places):
        rows = jnp.arange(len(places))
        number = 3 * batch["actions"] + 5 * batch["gaps"] + 7 * batch["positions"]
        number = number[rows, places] + batch["segments"].sum(1)
        return 1e4 * jax.nn.one_hot(5 + number % 60, NUM_ROWS) - 1e5 * (rows[:, None] < 0)

    some = 0
    for real, record in _draw(real_log, _model(score, insert_share=0.0)):
        steps, length = np.arange(len(record["items"])), len(record["items"])
        number = 3 * record["actions"] + 5 * gaps_of_times(record["times"], 16) + 7 * steps + length
        differs = record["items"] != real["items"]
        expected = 5 + number % 60
        fine = (record["items"] == expected) | (real["items"] == expected)
        assert fine[differs].all()
        some += differs.sum()
    assert some > 64


def test_items_are_drawn_by_the_probabilities_of_the_model_and_only_if_allowed():
    odds = np.random.default_rng(0).dirichlet(np.ones(NUM_ROWS))
    logits = jnp.log(jnp.asarray(odds, jnp.float32))

    def score(params, batch, places):
        return jnp.broadcast_to(logits[None], (len(places), NUM_ROWS))

    allowed = np.arange(NUM_ROWS) >= 5
    order = jnp.asarray(np.tile([0.5, 2.0], (8000, 1)), jnp.float32)
    batch = {"items": jnp.full((8000, 2), 9)}
    keys = jax.random.split(jax.random.key(0), 8000)
    items = fill_items(
        keys, {}, batch, order, jnp.asarray(allowed), 1.0, score=score, top_k=0
    )[:, 0]  # fmt: skip
    expected = odds * allowed * (np.arange(NUM_ROWS) != 9)  # its own item is not drawn
    expected *= 8000 / expected.sum()
    seen = np.bincount(items, minlength=NUM_ROWS)
    assert not seen[expected == 0].any()
    many = expected > 5
    assert (np.square(seen - expected)[many] / expected[many]).sum() < many.sum() + 50


@pytest.mark.slow  # compiles
def test_settings_change_the_draws(real_log):
    def score(params, batch, places):
        return jnp.broadcast_to(
            jnp.arange(NUM_ROWS, dtype=jnp.float32)[None] / 20, (len(places), 65)
        )

    plain = [record["items"].tolist() for _, record in _draw(real_log, _model(score), 16)]
    for change in ({"temperature": 0.1}, {"top_k": 2}, {"mask_share": 0.8}, {"insert_share": 0.9}):
        other = [
            record["items"].tolist() for _, record in _draw(real_log, _model(score, **change), 16)
        ]
        assert other != plain, change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_share": 1.5}, "masked_fill.mask_share is 1.5"),
        ({"mask_share": 0.0, "insert_share": 0.0}, "nothing is filled"),
        ({"temperature": 0.0}, "masked_fill.temperature is 0.0; must be above 0"),
        ({"top_k": 99}, "masked_fill.top_k is 99"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        _model(**change)


def test_long_users_are_left_alone_and_room_is_asked_for(real_log):
    data = ExpansionData(real_log, 1800, 5, 16, load_masked=lambda seed: _model())
    long_only = replace(data, source=[r for r in real_log if len(r["items"]) > 5])
    state = MaskedFill().fit(long_only, 0)
    assert list(MaskedFill().draw(jax.random.key(0), state, 4, 0)) == []
    with pytest.raises(ValueError, match="short_user_events is 14; masked_fill needs at least 2"):
        MaskedFill().fit(replace(data, short_user_events=14), 0)
