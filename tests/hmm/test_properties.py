"""What holds for every shape: masks and padding change nothing, posteriors sum to 1, gradients."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax import hmm
from recjax.hmm.parameters import without_stays
from recjax.hmm.passes import layout_log_likelihood

# Shapes come from a few, because each one compiles.
SHAPES = st.tuples(st.sampled_from([2, 5]), st.sampled_from([1, 4, 7]), st.sampled_from([1, 3]))


def _with_durations(params, rng, most):
    if most == 1:
        return params
    duration = rng.dirichlet(np.ones(most), params.num_states).astype(np.float32)
    return dataclasses.replace(
        params, transition=without_stays(params.transition), duration=duration
    )


def _padded(rng, events, rows, columns):
    """More rows without events and more columns, all cells beyond the lengths in disorder."""
    grids = []
    for grid, bound in ((events.items, 6), (events.actions, 2), (events.gaps, 4)):
        wide = rng.integers(0, bound, np.add(grid.shape, (rows, columns))).astype(np.int32)
        real = np.arange(grid.shape[1])[None, :] < events.lengths[:, None]
        inner = wide[: grid.shape[0], : grid.shape[1]]
        inner[real] = grid[real]
        grids.append(wide)
    return hmm.Events(*grids, np.append(events.lengths, np.zeros(rows, np.int32)))


@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(shape=SHAPES, seed=st.integers(0, 2**16))
def test_padding_changes_nothing_and_posteriors_sum_to_one(toolbox, shape, seed):
    num_states, num_steps, most = shape
    rng = np.random.default_rng(seed)
    params = toolbox.random_params(rng, "plain", num_states=num_states)
    params = _with_durations(params, rng, most)
    events = toolbox.random_events(rng, rng.integers(0, num_steps + 1, 6), num_steps)
    padded = _padded(rng, events, 2, 3)
    real = np.arange(num_steps)[None, :] < events.lengths[:, None]
    for function in (hmm.smoother, hmm.filter):
        found = np.asarray(function(params, events))
        np.testing.assert_allclose(found.sum(-1), real, atol=1e-5)
        wide = np.asarray(function(params, padded))
        np.testing.assert_allclose(wide[:6, :num_steps], found, atol=1e-5)
        assert not wide[6:].any() and not wide[:, num_steps:].any()
    values = np.asarray(hmm.log_likelihood(params, events))
    expected = np.append(values, [0, 0])
    np.testing.assert_allclose(hmm.log_likelihood(params, padded), expected, rtol=1e-5, atol=1e-5)
    layouts = hmm.pack_events([events], 2, 2 * num_steps)
    packed = sum(
        float(layout_log_likelihood(params, layout, leave_out=False)) for layout in layouts
    )
    np.testing.assert_allclose(packed, values.sum(), rtol=1e-5)


@jax.jit
def _gradient(params, events):
    return jax.grad(lambda p: hmm.log_likelihood(p, events).sum(), allow_int=True)(params)


def _is_finite(tree):
    return all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(jax.device_get(tree))
        if np.issubdtype(leaf.dtype, np.floating)
    )


@pytest.mark.parametrize("most", [1, 2])
def test_gradients_are_finite_with_zeros_in_the_tables(extreme, most):
    """State 2 always stops, so that nothing is left of a user on the padding behind him."""
    params = _with_durations(extreme, np.random.default_rng(0), most)
    params.start[:] = [[0.5, 0.0, 0.5]]
    params.transition[:] = [[0, 0, 1], [0.5, 0, 0.5], [1, 0, 0]]
    params.stop[:] = [0.0, 0.3, 1.0]
    params.action[2] = [0, 1]
    if most > 1:
        params.duration[:] = [[1, 0], [0.5, 0.5], [0, 1]]
    events, _ = hmm.sample_users(jax.random.key(0), params, 20, max_len=6)
    assert np.isfinite(np.asarray(hmm.log_likelihood(params, events))).all()
    assert _is_finite(_gradient(params, events))


def test_long_stays_are_stable(toolbox, extreme):
    """10,000 steps with durations; those without are in test_inference."""
    params = _with_durations(extreme, np.random.default_rng(0), 3)
    events = toolbox.random_events(np.random.default_rng(1), [10_000], 10_000)
    np.testing.assert_allclose(np.asarray(hmm.smoother(params, events)).sum(-1), 1, atol=1e-3)
    assert np.isfinite(np.asarray(hmm.log_likelihood(params, events))).all()
    assert _is_finite(_gradient(params, events))
