"""Layouts and packing."""

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.events import flatten_events
from recjax.hmm.passes import layout_log_likelihood


def _users_of(layouts):
    """Items of the users in the packed rows, in order."""
    users = []
    for layout in layouts:
        for row in range(layout.items.shape[0]):
            for t in np.flatnonzero(layout.positions[row] == 0):
                end = t + np.flatnonzero(layout.lasts[row, t:])[0]
                assert (layout.positions[row, t : end + 1] == np.arange(end + 1 - t)).all()
                users.append(tuple(layout.items[row, t : end + 1]))
    return users


@pytest.mark.parametrize("row_len", [7, 16])
@pytest.mark.parametrize("split", [1, 3, 40])
def test_packing_keeps_every_user_in_order(toolbox, row_len, split):
    rng = np.random.default_rng(0)
    events = toolbox.random_events(rng, rng.integers(0, 8, 40), 7)
    parts = [
        jax.tree.map(lambda leaf, i=i: leaf[i : i + split], events) for i in range(0, 40, split)
    ]
    layouts = list(hmm.pack_events(parts, 3, row_len))
    assert {layout.items.shape for layout in layouts} == {(3, row_len)}
    expected = [tuple(user[0]) for user in toolbox.users(events) if len(user[0])]
    assert _users_of(layouts) == expected


def test_packed_likelihood_equals_one_user_per_row(toolbox, extreme):
    rng = np.random.default_rng(1)
    events = toolbox.random_events(rng, rng.integers(0, 8, 30), 7)
    packed = [
        float(layout_log_likelihood(extreme, layout, leave_out=True))
        for layout in hmm.pack_events([events], 4, 17)
    ]
    expected = hmm.log_likelihood(extreme, events, leave_out=True)
    np.testing.assert_allclose(sum(packed), expected.sum(), rtol=1e-5)


def test_packing_refuses_a_user_longer_than_a_row(toolbox):
    events = toolbox.random_events(np.random.default_rng(0), [2, 6], 6)
    with pytest.raises(ValueError, match=r"lengths\[1\] = 6"):
        list(hmm.pack_events([events], 2, 5))


def test_packing_of_nothing_yields_nothing(toolbox):
    events = toolbox.random_events(np.random.default_rng(0), [0, 0], 3)
    assert list(hmm.pack_events([events], 2, 5)) == []


def test_flatten_leaves_padding_out(toolbox):
    events = toolbox.random_events(np.random.default_rng(0), [2, 0, 3], 4)
    items, offsets = flatten_events(events)
    assert offsets.tolist() == [0, 2, 2, 5]
    np.testing.assert_array_equal(items, np.r_[events.items[0, :2], events.items[2, :3]])
