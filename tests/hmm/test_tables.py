"""Draw tables: what they stand for, computed exactly rather than by drawing."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import hmm
from recjax.hmm.tables import alias_tables, multiply_high


def _implied(tables, row):
    """Probabilities that the cells of one alias table stand for."""
    size = tables.width if tables.sizes is None else int(tables.sizes[row])
    start = row * size if tables.starts is None else int(tables.starts[row])
    accept = np.asarray(tables.thresholds[start : start + size], np.float64) / 2**32
    result = accept / size
    np.add.at(result, np.asarray(tables.aliases[start : start + size]), (1 - accept) / size)
    return result


@given(
    st.integers(1, 40).flatmap(
        lambda num: st.lists(st.lists(st.floats(0, 1), min_size=num, max_size=num), min_size=1)
    )
)
@settings(max_examples=200, deadline=None)
def test_alias_cells_stand_for_the_odds_of_every_row(odds):
    odds = np.array(odds)
    tables = alias_tables(odds)
    for place, row in enumerate(odds):
        if row.sum() > 1e-3:
            np.testing.assert_allclose(_implied(tables, place), row / row.sum(), atol=1e-9)


def test_rows_that_rounding_leaves_below_their_mean_are_drawn_evenly():
    odds = np.array([[0.0], [0.92578125]])  # 0.92578125 x (1 / 0.92578125) is below 1
    np.testing.assert_array_equal(alias_tables(odds).draw(jnp.arange(2), jnp.zeros(2, "uint32")), 0)


def test_alias_cells_hold_for_many_rows_at_once(monkeypatch):
    odds = np.random.default_rng(0).exponential(size=(500, 64)) ** 3
    odds[::7] = 1.0  # flat rows between skewed ones
    odds[::11, 1:] = 0.0
    monkeypatch.setattr("recjax.hmm.tables._CELLS", 10_000)  # several parts
    tables = alias_tables(odds)
    for place, row in enumerate(odds):
        np.testing.assert_allclose(_implied(tables, place), row / row.sum(), atol=1e-9)


def test_alias_cells_hold_for_a_skewed_catalogue():
    odds = 1.0 / np.arange(1, 12_001) ** 1.5
    odds[6_000:] *= 1e-4
    found, expected = _implied(alias_tables(odds[None]), 0), odds / odds.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-13)


def test_alias_of_an_impossible_outcome_is_never_drawn():
    tables = alias_tables(np.array([[0.0, 1.0, 0.0, 3.0], [1.0, 0.0, 0.0, 0.0]]))
    words = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32))
    assert set(np.unique(tables.draw(jnp.zeros(10_000, jnp.int32), words))) == {1, 3}
    assert set(np.unique(tables.draw(jnp.ones(10_000, jnp.int32), words))) == {0}


def test_multiply_high_equals_64_bit_product():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2**32, (2, 1000), dtype=np.uint64)
    left[:3], right[:3] = [0, 2**32 - 1, 2**32 - 1], [5, 2**32 - 1, 1]
    found = multiply_high(jnp.asarray(left, jnp.uint32), jnp.asarray(right, jnp.uint32))
    np.testing.assert_array_equal(np.asarray(found), (left * right) >> np.uint64(32))


def test_kernel_thresholds_stand_for_the_weights(toolbox):
    rng = np.random.default_rng(0)
    log = toolbox.random_events(rng, [6] * 5, 6)
    for cap in (1, 3, 4, 5):
        kernel = hmm.build_kernel([log], 6, toolbox.settings(kernel_neighbours=cap))
        tables = hmm.make_tables(toolbox.random_params(rng, "plain", kernel)).kernel
        words = jnp.asarray(((np.arange(20_000) + 0.5) / 20_000 * 2**32).astype(np.uint32))
        for item in range(6):
            drawn = tables.draw(jnp.full(20_000, item), words)
            found = np.bincount(drawn, minlength=7)[kernel.neighbours[item]] / 20_000
            used = kernel.neighbours[item] < 6
            expected = np.asarray(kernel.weights)[item]
            np.testing.assert_allclose(found[used], expected[used], atol=1e-4)


def test_temperature_flattens_and_sharpens_items_only(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    own = toolbox.own_table(params)
    for temperature in (0.5, 2.0):
        tables = hmm.make_tables(params, temperature)
        expected = own ** (1 / temperature)
        expected /= expected.sum(1, keepdims=True)
        for state in range(3):
            np.testing.assert_allclose(_implied(tables.items, state), expected[state], atol=1e-6)
            np.testing.assert_allclose(
                _implied(tables.action, state), params.action[state], atol=1e-6
            )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_above_zero(toolbox, temperature):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    with pytest.raises(ValueError, match="temperature"):
        hmm.make_tables(params, temperature)
