"""The recursions in parallel over time, against the recursions one step after another."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm import associative, recursions
from recjax.hmm.emissions import observe
from recjax.hmm.events import time_major


@functools.partial(jax.jit, static_argnames="way")
def _run(params, layout, way):
    """alphas, norms, posteriors and arrivals, time-major."""
    layout = time_major(layout)
    likelihood = observe(params, layout, leave_out=False).likelihood
    alphas, norms = way.forward(params, layout, likelihood)
    return alphas, norms, *way.backward(params, layout, likelihood, alphas, norms)


def _assert_equal(params, layout, tolerance=1e-5):
    layout = jax.tree.map(jnp.asarray, layout)
    real = np.asarray(layout.positions).T >= 0
    expected, found = (_run(params, layout, way) for way in (recursions, associative))
    for name, one, other in zip(
        ("alphas", "norms", "posteriors", "arrivals"), expected, found, strict=True
    ):
        assert np.isfinite(other).all(), name
        np.testing.assert_allclose(
            np.asarray(other)[real],
            np.asarray(one)[real],
            atol=tolerance,
            rtol=tolerance,
            err_msg=name,
        )
    np.testing.assert_array_equal(np.asarray(found[2])[~real], 0)
    np.testing.assert_array_equal(np.asarray(found[3])[~real], 0)


@pytest.mark.parametrize("seed", range(2))
def test_ragged_and_packed_users_give_the_same(toolbox, extreme, seed):
    rng = np.random.default_rng(seed)
    _assert_equal(extreme, hmm.lay_out(toolbox.random_events(rng, rng.integers(0, 7, 8), 6)))
    events = toolbox.random_events(rng, rng.integers(1, 4, 20), 3)
    for layout in hmm.pack_events([events], 8, 6):  # the shape above: compiled once
        _assert_equal(extreme, layout)


def test_segments_begin_in_their_own_states(toolbox):
    rng = np.random.default_rng(3)
    params = toolbox.random_params(rng, "plain", num_segments=2)
    events = toolbox.random_events(rng, rng.integers(1, 4, 20), 3)
    events = dataclasses.replace(events, segments=np.arange(20, dtype=np.int32) % 2)
    for layout in hmm.pack_events([events], 8, 6):
        _assert_equal(params, layout)


def test_extreme_events_and_impossible_ones_stay_with_their_user(toolbox):
    """Probabilities from 1 to 1e-30, moves that cannot be, and an item that no state has."""
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    table = np.array(params.items.table) ** np.array([1, 8, 20])
    table[5] = 0
    params.transition[0] = [0, 1, 0]
    params = dataclasses.replace(
        params, items=hmm.PlainItems((table / table.sum(0)).astype(np.float32))
    )
    rng = np.random.default_rng(1)
    events = toolbox.random_events(rng, np.tile([3, 2, 1], 8), 3, num_items=5)
    events.items[1, 1] = 5
    for layout in hmm.pack_events([events], 8, 6):
        _assert_equal(params, layout)


def test_ten_thousand_events_give_the_same(toolbox):
    """3e-5: over so many steps the recursion's posteriors drift from the sum 1, by 1.5e-5 here."""
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    events = toolbox.random_events(np.random.default_rng(1), [10_000, 9_000], 10_000)
    _assert_equal(params, hmm.lay_out(events), tolerance=3e-5)
    sums = np.asarray(hmm.smoother(params, events, parallel=True)).sum(-1)
    np.testing.assert_allclose(sums[0], 1, atol=1e-6)


def test_public_functions_take_either_way(toolbox, monkeypatch):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    events = toolbox.random_events(np.random.default_rng(0), [4, 0, 3, 1], 4)
    asked = []

    def rule(*shape):
        asked.append(shape)
        return True

    for function in (hmm.filter, hmm.smoother, hmm.log_likelihood):
        one = function(params, events, parallel=False)
        np.testing.assert_allclose(function(params, events, parallel=True), one, atol=1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(associative, "use_associative", rule)
            np.testing.assert_allclose(function(params, events), one, atol=1e-5)
    assert asked == 3 * [(4, 4, 3, jax.default_backend())]


def test_the_rule_reads_the_measured_bounds(monkeypatch):
    assert not associative.use_associative(10_000, 1, 2, "cpu")
    monkeypatch.setitem(associative.FASTER_WITHIN, "some", (100, 64))
    assert associative.use_associative(100, 1, 8, "some")
    assert not associative.use_associative(99, 1, 8, "some")
    assert not associative.use_associative(100, 2, 8, "some")
    assert not associative.use_associative(100, 1, 8, "another")


def test_gradients_are_those_of_the_recursion(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    params.transition[0] = [0, 1, 0]
    events = toolbox.random_events(np.random.default_rng(1), [4, 0, 3, 1], 4)

    @functools.partial(jax.jit, static_argnames="parallel")
    @jax.grad
    def slope(params, parallel):
        return hmm.log_likelihood(params, events, parallel=parallel).sum()

    one, other = slope(params, parallel=False), slope(params, parallel=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, other)
