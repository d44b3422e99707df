"""Item distributions from features: the softmax, the M-step, items without history."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from recjax import hmm
from recjax.hmm.counts import estimate, make_prior, reseed, zero_counts
from recjax.hmm.expectation import add_counts
from recjax.hmm.validation import validate_item_features

NUM_ITEMS, NUM_FEATURES, NUM_STATES = 6, 3, 3


def _softmax_table(features, weights, offset):
    """[V, K] in double precision, from the formula."""
    odds = np.exp(features.astype(np.float64) @ weights + offset[:, None])
    return odds / odds.sum(0)


@pytest.fixture
def items():
    rng = np.random.default_rng(1)
    parts = (
        rng.standard_normal((NUM_ITEMS, NUM_FEATURES)),
        rng.standard_normal((NUM_FEATURES, NUM_STATES)),
        rng.standard_normal(NUM_ITEMS),
    )
    return jax.tree.map(np.asarray, hmm.ContentItems.of(*(x.astype(np.float32) for x in parts)))


def _model(toolbox, items, kernel=None):
    params = toolbox.random_params(np.random.default_rng(2), "plain", kernel)
    return dataclasses.replace(params, items=items)


def _penalised(flat, features, offset, counts, ridge):
    """Minus the penalised expected log-likelihood, and its gradient."""
    weights = flat.reshape(features.shape[1], -1)
    table = _softmax_table(features, weights, offset)
    value = (counts * np.log(table)).sum() - 0.5 * ridge * (weights**2).sum()
    slope = features.T @ (counts - counts.sum(0) * table) - ridge * weights
    return -value, -slope.ravel()


def test_probabilities_are_the_softmax(items):
    expected = _softmax_table(items.features, items.weights, items.offset)
    np.testing.assert_allclose(items.table, expected, rtol=1e-5)
    picked = items.rows(jnp.array([[5, 0], [2, 2]]))
    np.testing.assert_allclose(picked, expected[np.array([[5, 0], [2, 2]])], rtol=1e-5)
    np.testing.assert_allclose(items.block(2, 3), expected[2:5], rtol=1e-5)


def test_expected_counts_equal_enumeration(toolbox, items):
    params = _model(toolbox, items)
    events = toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 0, 2], 4)
    expected = np.zeros((NUM_ITEMS, NUM_STATES))
    for user in toolbox.users(events):
        if len(user[0]):
            paths, joint = toolbox.all_paths(params, *user)
            for path, weight in zip(paths, joint / joint.sum(), strict=True):
                np.add.at(expected, (user[0], np.array(path)), weight)
    counts, _ = add_counts(zero_counts(params), params, hmm.lay_out(events))
    np.testing.assert_allclose(counts.items["table"], expected, atol=1e-4)


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_m_step_finds_the_best_weights(items, ridge):
    counts = np.random.default_rng(3).gamma(1.0, 20.0, (NUM_ITEMS, NUM_STATES)).astype(np.float32)
    counts[:, 2] = 0.0  # a state that nothing reaches: only the prior speaks
    prior = {"ridge": np.float32(ridge)}
    objective = functools.partial(
        _penalised, features=items.features, offset=items.offset, counts=counts, ridge=ridge
    )
    best = minimize(objective, np.zeros(items.weights.size), jac=True, method="BFGS", tol=1e-9)
    climb = jax.jit(hmm.ContentItems.estimate)
    found, values = items, [-objective(items.weights.ravel())[0]]
    for _ in range(5):
        found = climb(found, {"table": counts}, prior)
        values.append(-objective(np.asarray(found.weights, np.float64).ravel())[0])
    assert (np.diff(values) > -1e-4).all() and values[-1] > values[0] + 1
    np.testing.assert_allclose(found.weights, best.x.reshape(found.weights.shape), atol=2e-3)
    np.testing.assert_allclose(values[-1], -best.fun, rtol=1e-6)
    table = _softmax_table(items.features, np.asarray(found.weights), items.offset)
    np.testing.assert_allclose(found.table, table, rtol=1e-4)
    penalty = -0.5 * ridge * np.square(found.weights).sum()
    np.testing.assert_allclose(found.log_prior(prior, np.ones(3)), penalty, rtol=1e-5)


def test_m_step_never_lowers_the_objective_from_wild_starts(items):
    """Far from the best weights whole Newton steps overshoot; halving must catch them all."""
    rng = np.random.default_rng(4)
    counts = rng.gamma(0.2, 100.0, (8, NUM_ITEMS, NUM_STATES)).astype(np.float32)
    starts = (10 * rng.standard_normal((8, NUM_FEATURES, NUM_STATES))).astype(np.float32)

    @jax.jit
    @jax.vmap
    def climb(start, table):
        begin = hmm.ContentItems.of(items.features, start, items.offset)
        return begin.estimate({"table": table}, {"ridge": jnp.float32(0.01)}).weights

    ends = np.asarray(climb(starts, counts))
    rises = []
    for start, end, table in zip(starts, ends, counts, strict=True):
        before, after = (
            -_penalised(w.astype(np.float64).ravel(), items.features, items.offset, table, 0.01)[0]
            for w in (start, end)
        )
        rises.append(after - before)
    assert np.isfinite(ends).all() and min(rises) > 0


@pytest.mark.parametrize("with_kernel", [False, True])
def test_penalised_likelihood_never_falls(toolbox, items, with_kernel):
    settings = toolbox.settings(smoothing=0.3, num_iterations=20)
    params = _model(toolbox, items)
    events, _ = hmm.sample_users(jax.random.key(0), params, 120, max_len=8)
    events = jax.tree.map(np.asarray, events)
    kernel = hmm.build_kernel([events], NUM_ITEMS, settings) if with_kernel else None
    fitted, history = hmm.fit_baum_welch(
        jax.random.key(1),
        lambda: [events],
        toolbox.sizes,
        settings,
        kernel=kernel,
        item_features=items.features,
    )
    values = np.array([row["penalised"] for row in history])
    assert len(values) > 5 and (np.diff(values) > -1e-6).all()
    assert values[-1] - values[0] > 0.01
    hmm.validate_params(fitted)


def test_an_item_without_history_is_drawn_where_it_fits(toolbox):
    """Items 0-9 sell in one state, 10-19 in the other; 20 is like the first, 21 like the second."""
    rng = np.random.default_rng(0)
    features = np.repeat([[1.0], [-1.0]], 10, axis=0)
    features = np.concatenate([features, [[1.0], [-1.0]]]).astype(np.float32)
    kinds = rng.integers(0, 2, 150)
    grid = (10 * kinds[:, None] + rng.integers(0, 10, (150, 6))).astype(np.int32)
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.full(150, 6, np.int32))
    settings = toolbox.settings(num_states=2, smoothing=0.01, num_iterations=12)
    params, _ = hmm.fit_baum_welch(
        jax.random.key(0), lambda: [events], hmm.HmmSizes(22), settings, item_features=features
    )
    table = np.asarray(params.items.table)
    likes_first = int(table[0].argmax())
    assert table[20, likes_first] > 10 * table[21, likes_first]
    assert table[21, 1 - likes_first] > 10 * table[20, 1 - likes_first]
    drawn, states = hmm.sample_users(jax.random.key(1), params, 4096, max_len=8)
    real = np.asarray(states) >= 0
    items, states = np.asarray(drawn.items)[real], np.asarray(states)[real]
    seen = np.array([[((items == v) & (states == k)).sum() for k in (0, 1)] for v in (20, 21)])
    expected = table[20:] * np.bincount(states, minlength=2)
    assert seen[0, likes_first] > 10
    # Six standard errors over four cells: a false alarm once in 10^8 runs.
    assert (np.abs(seen - expected) < 6 * np.sqrt(expected) + 3).all()
    card = hmm.describe_states(params, ["view"])[0]
    own = table[:, card["state"]]
    np.testing.assert_allclose(card["top_items"][0][1], own.max(), rtol=1e-6)


def test_gradients_are_finite(toolbox, items):
    events = toolbox.random_events(np.random.default_rng(5), [4, 0, 3], 4)

    @jax.jit
    @jax.grad
    def slope(parts):
        params = _model(toolbox, hmm.ContentItems.of(*parts))
        return hmm.log_likelihood(params, events).sum()

    slopes = slope((items.features, items.weights, items.offset))
    assert all(np.isfinite(x).all() and np.abs(x).max() > 1e-3 for x in slopes)


def test_empty_states_take_over_what_the_fullest_likes(toolbox, items):
    params = _model(toolbox, items)
    events = toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 2], 4)
    counts, _ = add_counts(zero_counts(params), params, hmm.lay_out(events))
    counts = dataclasses.replace(
        counts, stop=jnp.array([9.0, 0.0, 2.0]), go_on=jnp.array([9.0, 0.0, 2.0])
    )
    prior = make_prior(params, 0.1, np.ones(NUM_ITEMS))
    found = reseed(jax.random.key(0), params, counts, prior)
    hmm.validate_params(found)
    assert isinstance(found.items, hmm.ContentItems)
    weights = np.asarray(found.items.weights)
    np.testing.assert_array_equal(weights[:, [0, 2]], items.weights[:, [0, 2]])
    assert 0 < np.abs(weights[:, 1] - weights[:, 0]).max() < 5


def test_arrays_bring_the_model_back(toolbox, items):
    params = _model(toolbox, items)
    found = hmm.from_arrays(hmm.to_arrays(params))
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_a_whole_m_step_is_one_program(toolbox, items):
    params = _model(toolbox, items)
    events = toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 2], 4)
    counts, _ = add_counts(zero_counts(params), params, hmm.lay_out(events))
    popularity = np.bincount(events.items.ravel(), minlength=NUM_ITEMS)
    found = estimate(params, counts, make_prior(params, 0.1, popularity))
    hmm.validate_params(found)
    assert not np.allclose(found.items.weights, items.weights)


def test_bad_features_are_named(toolbox, items):
    with pytest.raises(ValueError, match=r"item_features has shape \(6,\)"):
        validate_item_features(np.zeros(6), 6)
    with pytest.raises(ValueError, match=r"item_features has shape \(5, 2\): expected \(6, 2\)"):
        validate_item_features(np.zeros((5, 2)), 6)
    features = np.zeros((6, 2))
    features[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"item_features\[4, 1\] = nan: expected a finite"):
        validate_item_features(features, 6)
    log = toolbox.random_events(np.random.default_rng(0), [3, 2], 3)
    with pytest.raises(ValueError, match="item_features and item_category: expected at most one"):
        hmm.fit_baum_welch(
            jax.random.key(0),
            lambda: [log],
            toolbox.sizes,
            toolbox.settings(),
            item_category=np.zeros(6, int),
            item_features=np.zeros((6, 2)),
        )
    weights = np.full_like(items.weights, np.inf)
    with pytest.raises(ValueError, match=r"items.weights\[0, 0\] = inf"):
        hmm.validate_params(_model(toolbox, dataclasses.replace(items, weights=weights)))
