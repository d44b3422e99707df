"""What comes next for users that the kernel was counted from: it must not seem to foresee them."""

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.emissions import observe
from recjax.hmm.events import time_major


@pytest.fixture
def unlinked(toolbox):
    """Items drawn independently, a kernel counted from them, and a model with and without it."""
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 200, (100, 5)).astype(np.int32)
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.full(100, 5, np.int32))
    kernel = hmm.build_kernel([events], 200, toolbox.settings(kernel_neighbours=50))
    sticky = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    params = hmm.HmmParams(
        start=np.full((1, 2), 0.5, np.float32),
        transition=sticky,
        stop=np.full(2, 0.2, np.float32),
        action=np.ones((2, 1), np.float32),
        gap=np.ones((2, 1), np.float32),
        mix=np.array([0.9, 0.0], np.float32),
        items=hmm.PlainItems(np.full((200, 2), 1 / 200, np.float32)),
        kernel=kernel,
    )
    return params, events


def test_own_counts_left_out_do_not_speak_for_the_kernel(unlinked):
    params, events = unlinked
    by_kernel = []
    for leave_out in (False, True):
        likely = np.asarray(hmm.next_item_distribution(params, events, leave_out=leave_out))
        np.testing.assert_allclose(likely.sum(1), 1, atol=1e-4)
        usual = np.median(likely, axis=1)  # of an item that no neighbour of the user's is
        by_kernel.append(1 - (200 * usual).mean())
    assert by_kernel[0] > 0.75  # as if the kernel explained the users
    assert by_kernel[1] < 0.15  # it does not


def test_state_equals_enumeration_with_own_counts_left_out(unlinked):
    params, events = unlinked
    few = jax.tree.map(lambda leaf: leaf[:4], events)
    layout = time_major(hmm.lay_out(few))
    emission = np.asarray(observe(params, layout, leave_out=True).item, np.float64)
    found = hmm.next_item_distribution(params, few, leave_out=True)
    usual = np.median(np.asarray(found), axis=1)
    for row in range(4):
        alpha = params.start[0] * emission[0, row]
        for t in range(1, 5):  # equal stops cancel
            alpha = (alpha @ params.transition) * emission[t, row]
        after = (alpha / alpha.sum()) @ params.transition
        np.testing.assert_allclose(200 * usual[row], 1 - 0.9 * after[0], rtol=1e-4)
