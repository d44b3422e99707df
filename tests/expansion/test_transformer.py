import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.transforms import gaps_of_times
from recjax.expansion.generate import NextItemModel, Transformer
from recjax.expansion.generate.item_by_item import draw_items
from recjax.expansion.strategy import ExpansionData

NUM_ROWS = 8


def _last(batch, name):
    return jnp.take_along_axis(batch[name], batch["lengths"][:, None] - 1, axis=1)[:, 0]


def _bigram(params, batch):
    return params[_last(batch, "items")]


def _draw(table, n=6000, length=6, temperature=1.0, top_k=0, allowed=None):
    keys = jax.random.split(jax.random.key(0), n)
    nothing = jnp.zeros((n, length), jnp.int32)
    allowed = np.ones(NUM_ROWS, bool) if allowed is None else allowed
    first = jnp.arange(n, dtype=jnp.int32) % NUM_ROWS
    draws = draw_items(
        keys, table, first, nothing, nothing, allowed, temperature, score=_bigram, top_k=top_k
    )
    return np.asarray(draws)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(NUM_ROWS, NUM_ROWS)).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_items_are_drawn_by_the_probabilities_of_the_model(table, temperature):
    allowed = np.arange(NUM_ROWS) != 3
    draws = _draw(table, temperature=temperature, allowed=allowed)
    np.testing.assert_array_equal(draws[:, 0], np.arange(len(draws)) % NUM_ROWS)
    odds = np.exp(table.astype(np.float64) / temperature) * allowed
    odds /= odds.sum(1, keepdims=True)
    for step in (1, 5):
        seen = np.zeros((NUM_ROWS, NUM_ROWS))
        np.add.at(seen, (draws[:, step - 1], draws[:, step]), 1)
        expected = seen.sum(1, keepdims=True) * odds
        assert not seen[expected == 0].any()
        many = expected > 5
        distance = ((seen - expected)[many] ** 2 / expected[many]).sum()
        assert distance < many.sum() + 5 * np.sqrt(2 * many.sum())


def test_top_k_keeps_the_likeliest(table):
    draws = _draw(table, n=2000, top_k=2)
    likeliest = np.argsort(-table, axis=1)[:, :2]
    for step in range(1, draws.shape[1]):
        assert (likeliest[draws[:, step - 1]] == draws[:, step, None]).any(1).all()
    assert len(set(draws[draws[:, 0] == 0, 1])) == 2
    np.testing.assert_array_equal(_draw(table, n=64, top_k=1)[:, 1:], _draw(
        table, n=64, temperature=1e-4)[:, 1:])  # fmt: skip


def test_model_reads_the_actions_and_gaps_that_the_record_has(real_log):
    """A model whose next item is named by action, gap and place; each must be the record's."""

    def score(params, batch):
        length = batch["lengths"][:, None]
        past = jnp.arange(batch["items"].shape[1])[None] < length
        is_fine = (batch["segments"] == past).all(1) & (
            _last(batch, "positions") == length[:, 0] - 1
        )
        number = 3 * _last(batch, "actions") + 5 * _last(batch, "gaps") + _last(batch, "items")
        return 1e4 * jax.nn.one_hot(jnp.where(is_fine, 5 + number % 60, 0), 65)

    model = NextItemModel(score, {}, 65, 16, 12, 1.0, 0)
    data = ExpansionData(real_log, 1800, 5, 16, train_next_item=lambda name, seed: model)
    records = Transformer().draw(jax.random.key(0), Transformer().fit(data, 0), 64, 0)
    assert max(len(record["items"]) for record in records) == 12
    for record in records:
        gaps = gaps_of_times(record["times"], 16)
        number = 3 * record["actions"] + 5 * gaps + record["items"]
        np.testing.assert_array_equal(record["items"][1:], 5 + number[:-1] % 60)


def test_ids_without_a_training_event_are_never_drawn(real_log):
    flat = NextItemModel(_bigram, jnp.zeros((70, 70)), 70, 16, 16, 1.0, 0)
    data = ExpansionData(real_log, 1800, 5, 16, train_next_item=lambda name, seed: flat)
    records = Transformer().draw(jax.random.key(0), Transformer().fit(data, 0), 200, 0)
    seen = np.unique(np.concatenate([record["items"] for record in real_log]))
    assert set(np.concatenate([record["items"] for record in records])) == set(seen)


@pytest.mark.parametrize(
    ("temperature", "top_k", "message"),
    [(0.0, 0, "temperature is 0.0; must be above 0"), (1.0, 9, "top_k is 9; must be 0")],
)
def test_settings_out_of_range_are_named(temperature, top_k, message):
    with pytest.raises(ValueError, match=message):
        NextItemModel(_bigram, None, NUM_ROWS, 16, 16, temperature, top_k)
