"""What a compiled E-step holds (on CPU): linear in events x states, nothing of events x items."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.counts import make_prior, zero_counts
from recjax.hmm.expectation import add_counts
from recjax.hmm.stepwise import _step

NUM_STATES, NUM_STEPS, NEIGHBOURS = 16, 32, 16
ITEMS, ROWS = (2_000, 4_000), (16, 32)
BYTES = 4


def _model(num_items, with_kernel):
    kernel = None
    if with_kernel:
        grid = np.zeros((num_items, NEIGHBOURS), np.float32)
        column, lags = grid[:, 0], np.array([0.6, 0.4], np.float32)
        kernel = hmm.Kernel(grid.astype(np.int32), grid, column, column, lags, np.float32(0.5))
    table = np.zeros((num_items, NUM_STATES), np.float32)
    states, moves = table[0], table[:NUM_STATES]
    small = moves[:, :4]
    items = hmm.PlainItems(table)
    return hmm.HmmParams(states[None], moves, states, small, small, states, items, kernel)


def _held(compiled):
    """Bytes of a compiled program's working memory and of results that are no argument."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


@functools.cache
def _e_step(num_items, num_rows, with_kernel):
    params = _model(num_items, with_kernel)
    grid = np.zeros((num_rows, NUM_STEPS), np.int32)
    layout = hmm.Layout(grid, grid, grid, grid, grid > 0)
    counts = jax.eval_shape(zero_counts, params)
    return _held(add_counts.lower(counts, params, layout).compile())


@pytest.mark.parametrize("with_kernel", [False, True])
def test_e_step_holds_no_events_by_items(with_kernel):
    sizes = np.array([[_e_step(v, b, with_kernel) for b in ROWS] for v in ITEMS], float)
    more_items, more_rows = ITEMS[1] - ITEMS[0], ROWS[1] - ROWS[0]
    events = more_rows * NUM_STEPS
    product = sizes[1, 1] - sizes[1, 0] - sizes[0, 1] + sizes[0, 0]
    assert abs(product) < 0.01 * more_items * events * BYTES
    by_items = (sizes[1, 0] - sizes[0, 0]) / (more_items * NUM_STATES * BYTES)
    by_events = (sizes[0, 1] - sizes[0, 0]) / (events * NUM_STATES * BYTES)
    assert by_items < 0.1  # tables of [V, K] beside those given: counts are added in place
    assert 0 < by_events < 12  # arrays of [T, B, K]; 7 and 8.5 when this was written


def test_stepwise_step_holds_a_few_tables():
    sizes = []
    for num_items in ITEMS:
        params = _model(num_items, False)
        grid = np.zeros((ROWS[0], NUM_STEPS), np.int32)
        layout = hmm.Layout(grid, grid, grid, grid, grid > 0)
        prior = make_prior(params, 0.1, np.ones(num_items))
        counts, one = jax.eval_shape(zero_counts, params), jnp.float32(1)
        sizes.append(_held(_step.lower(counts, params, prior, layout, one, one).compile()))
    tables = (sizes[1] - sizes[0]) / ((ITEMS[1] - ITEMS[0]) * NUM_STATES * BYTES)
    assert 1 <= tables < 1.5  # the new parameters alone; counts are scaled and added in place
