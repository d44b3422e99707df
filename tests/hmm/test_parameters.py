"""Containers, checks, arrays and state cards."""

import dataclasses

import jax
import numpy as np
import pytest

from recjax import hmm


def test_arrays_bring_the_model_back(model, tmp_path):
    np.savez(tmp_path / "model.npz", **hmm.to_arrays(model))
    with np.load(tmp_path / "model.npz") as arrays:
        found = hmm.from_arrays(dict(arrays))
    assert jax.tree.structure(found) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, found, model)


def test_arrays_of_something_else_are_refused():
    with pytest.raises(ValueError, match="not the tables of an HMM"):
        hmm.from_arrays({"start": np.ones(1), "items.table": np.ones((2, 1))})


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("start", (0, 1), np.nan, r"start\[0, 1\] = nan"),
        ("transition", (2, 0), -0.5, r"transition\[2, 0\] = -0.5"),
        ("action", (1, 0), 3.0, "action: row 1 sums to 3"),
        ("stop", 2, 1.5, r"stop\[2\] = 1.5"),
        ("mix", 0, -1.0, r"mix\[0\] = -1"),
    ],
)
def test_tables_that_are_no_distributions_are_named(toolbox, name, index, value, message):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    hmm.validate_params(params)
    getattr(params, name)[index] = value
    with pytest.raises(ValueError, match=message):
        hmm.validate_params(params)
    with pytest.raises(ValueError, match=message):
        hmm.sample_users(jax.random.key(0), params, 2, max_len=2)


def test_item_tables_that_are_no_distributions_are_named(toolbox):
    plain = toolbox.random_params(np.random.default_rng(0), "plain")
    plain.items.table[3, 1] += 0.5
    with pytest.raises(ValueError, match=r"items.table \(one row per state\): row 1 sums to 1.5"):
        hmm.validate_params(plain)
    category = toolbox.random_params(np.random.default_rng(0), "category")
    category.items.item_in_category[4] = 0.0
    with pytest.raises(ValueError, match=r"item_in_category .*: row 1 sums to"):
        hmm.validate_params(category)


def test_shapes_that_do_not_fit_are_named(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    wrong = dataclasses.replace(params, transition=params.transition[:2])
    with pytest.raises(ValueError, match=r"transition has shape \(2, 3\): expected \(3, 3\)"):
        hmm.validate_params(wrong)


def test_kernel_of_another_catalogue_is_refused(toolbox):
    rng = np.random.default_rng(0)
    log = (np.array([0, 1]), np.array([0, 2]))
    kernel = hmm.build_kernel([log], 5, toolbox.settings())
    with pytest.raises(ValueError, match="kernel.neighbours has 5 rows: expected 6"):
        hmm.validate_params(toolbox.random_params(rng, "plain", kernel))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_states", 0), ("kernel_window", 0), ("smoothing", -1.0), ("tolerance", np.nan)],
)
def test_settings_out_of_range_are_named(toolbox, name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        toolbox.settings(**{name: value})
    with pytest.raises(ValueError, match="num_items = 0"):
        hmm.HmmSizes(0)


@pytest.mark.parametrize("category", [None, np.array([0, 1, 0, 3, 1, 0])])
def test_random_start_is_a_model_and_differs_by_key(toolbox, category):
    starts = [
        hmm.initial_params(
            jax.random.key(seed), toolbox.sizes, toolbox.settings(), item_category=category
        )
        for seed in (0, 0, 1)
    ]
    for params in starts:
        hmm.validate_params(params)
    np.testing.assert_array_equal(starts[0].start, starts[1].start)
    assert not np.allclose(starts[0].start, starts[2].start)


def test_state_cards_say_what_the_states_do():
    params = hmm.HmmParams(
        start=np.array([[1.0, 0.0, 0.0]], np.float32),
        transition=np.array([[0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [1.0, 0.0, 0.0]], np.float32),
        stop=np.array([0.0, 0.1, 0.9], np.float32),
        action=np.array([[1.0, 0.0], [0.2, 0.8], [0.9, 0.1]], np.float32),
        gap=np.array([[0.0, 0.9, 0.1], [0.0, 0.2, 0.8], [0.0, 0.5, 0.5]], np.float32),
        mix=np.zeros(3, np.float32),
        items=hmm.PlainItems(np.eye(4, 3, dtype=np.float32)),
    )
    cards = hmm.describe_states(
        params,
        ["view", "buy"],
        item_names=["cup", "pan", "pot", "lid"],
        item_category=np.array([0, 0, 1, 1]),
        category_names=["drink", "cook"],
        top=2,
    )
    by_state = {card["state"]: card for card in cards}
    assert by_state[1]["name"] == "deciding" and by_state[2]["name"] == "leaving"
    assert by_state[0]["name"] == "comparing"
    assert by_state[2]["top_items"][0] == ("pot", 1.0)
    assert by_state[2]["top_categories"][0] == ("cook", 1.0)
    assert by_state[2]["next"][0] == (0, 1.0)
    assert by_state[0]["dwell"] == pytest.approx(5.0) and by_state[1]["typical_gap_bin"] == 2
    assert by_state[1]["actions"] == pytest.approx({"view": 0.2, "buy": 0.8})
    shares = [card["visit_share"] for card in cards]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="1 action names: expected 2"):
        hmm.describe_states(params, ["view"])


def test_visit_shares_equal_draws(extreme):
    cards = hmm.describe_states(extreme, ["view", "buy"])
    _, states = hmm.sample_users(jax.random.key(0), extreme, 20_000, max_len=30)
    states = np.asarray(states)
    seen = np.bincount(states[states >= 0], minlength=3) / (states >= 0).sum()
    for card in cards:
        assert card["visit_share"] == pytest.approx(seen[card["state"]], abs=0.01)
