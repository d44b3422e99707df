"""The kernel against direct counts over explicit pairs."""

import dataclasses

import numpy as np
import pytest

from recjax import hmm
from recjax.hmm import kernel as kernel_module
from recjax.hmm.events import lay_out, time_major
from recjax.hmm.kernel_explanation import explain_by_kernel

NUM_ITEMS = 6


def _pairs(users, window):
    """Every (user, earlier place, later place, lag)."""
    for number, items in enumerate(users):
        for later in range(len(items)):
            for lag in range(1, window + 1):
                if later - lag >= 0:
                    yield number, later - lag, later, lag


def _dense_counts(users, settings):
    counts = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for number, i, j, lag in _pairs(users, settings.kernel_window):
        before, after = users[number][i], users[number][j]
        counts[before, after] += 1 / lag
        counts[after, before] += settings.kernel_backward / lag
    return counts


def _left_out(users, settings, user, place):
    """Dense counts without what pairs with event (user, place) put into the column of its item.

    A pair of the event and an item u counts in cell (u, item); other cells of that pair stay.
    """
    counts = _dense_counts(users, settings)
    item = users[user][place]
    for number, i, j, lag in _pairs(users, settings.kernel_window):
        if number != user or place not in (i, j):
            continue
        other = users[user][i if place == j else j]
        forward, reverse = 1 / lag, settings.kernel_backward / lag
        counts[other, item] -= forward if place == j else reverse
        if other == item:
            counts[item, item] -= reverse if place == j else forward
    return counts


@pytest.fixture
def log(toolbox):
    return toolbox.random_events(np.random.default_rng(0), [6, 0, 4, 1, 5, 3], 6)


def _users(toolbox, log):
    return [user[0] for user in toolbox.users(log)]


def test_counts_equal_direct_counts(toolbox, log):
    settings = toolbox.settings(kernel_window=3, kernel_neighbours=NUM_ITEMS)
    kernel = hmm.build_kernel([log], NUM_ITEMS, settings)
    users = _users(toolbox, log)
    expected = _dense_counts(users, settings)
    found = np.zeros((NUM_ITEMS, NUM_ITEMS + 1))
    for row in range(NUM_ITEMS):
        found[row, kernel.neighbours[row]] = kernel.counts[row]
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-6)
    popularity = np.bincount(np.concatenate(users), minlength=NUM_ITEMS)
    np.testing.assert_allclose(kernel.scale, np.maximum(popularity, 1) ** -0.5, rtol=1e-6)
    np.testing.assert_allclose(kernel.totals, (expected * kernel.scale).sum(1), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(kernel.weights).sum(1), expected.sum(1) > 0, rtol=1e-6)


def test_rows_keep_the_heaviest_neighbours(toolbox, log):
    settings = toolbox.settings(kernel_neighbours=2)
    kernel = hmm.build_kernel([log], NUM_ITEMS, settings)
    damped = _dense_counts(_users(toolbox, log), settings) * kernel.scale
    for row in range(NUM_ITEMS):
        kept = kernel.neighbours[row][kernel.neighbours[row] < NUM_ITEMS]
        assert (np.diff(kept) > 0).all()
        np.testing.assert_allclose(
            np.sort(damped[row, kept]), np.sort(damped[row])[-len(kept) :], rtol=1e-6
        )


def test_stream_of_batches_equals_one_batch_and_flat_arrays(toolbox, log, monkeypatch):
    settings = toolbox.settings(kernel_neighbours=3)
    whole = hmm.build_kernel([log], NUM_ITEMS, settings)
    monkeypatch.setattr(kernel_module, "_BUFFER_PAIRS", 3)  # merge all the time
    users = _users(toolbox, log)
    parts = [(user, np.array([0, len(user)])) for user in users]
    for other in (hmm.build_kernel(parts, NUM_ITEMS, settings),):
        np.testing.assert_array_equal(whole.neighbours, other.neighbours)
        np.testing.assert_allclose(whole.counts, other.counts, rtol=1e-6)


def test_held_cells_stay_bounded(monkeypatch):
    monkeypatch.setattr(kernel_module, "_BUFFER_PAIRS", 50)
    counter = kernel_module._PairCounter(num_items=10, cap=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        counter.add(rng.integers(0, 100, 40), 1.0)
    keys, _ = counter.result()
    assert np.bincount(keys // 10).max() <= 10 and keys.size <= 10 * 3 + 100
    counter.add(np.arange(100), 0.5)
    keys, _ = counter.result()
    assert np.bincount(keys // 10).max() <= 3


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("backward", [0.0, 0.5])
def test_explanation_equals_direct_counts(toolbox, log, leave_out, backward):
    settings = toolbox.settings(kernel_neighbours=NUM_ITEMS, kernel_backward=backward)
    kernel = hmm.build_kernel([log], NUM_ITEMS, settings)
    np.testing.assert_allclose(kernel.lags, [2 / 3, 1 / 3], rtol=1e-6)
    kernel = dataclasses.replace(kernel, lags=np.array([0.3, 0.7], np.float32))
    layout = time_major(lay_out(log))
    found = explain_by_kernel(kernel, layout, leave_out=leave_out)
    users = _users(toolbox, log)
    num_changed = 0
    for row, user in enumerate(users):
        for t, item in enumerate(user):
            counts = _dense_counts(users, settings)
            if leave_out:
                less = _left_out(users, settings, row, t)
                num_changed += not np.allclose(less, counts)
                counts = less
            damped = counts * kernel.scale
            joint, usable = np.zeros(2), np.zeros(2)
            for lag in (1, 2):
                if lag <= t and damped[user[t - lag]].sum() > 1e-6:
                    row_of = damped[user[t - lag]]
                    usable[lag - 1] = 1
                    joint[lag - 1] = kernel.lags[lag - 1] * row_of[item] / row_of.sum()
            weight = usable @ kernel.lags
            assert bool(found.available[t, row]) == (weight > 0)
            for values, expected in (
                (found.probability, joint.sum() / (weight or 1)),
                (found.chosen, joint / (joint.sum() or 1)),
                (found.chance, usable / (weight or 1)),
            ):
                np.testing.assert_allclose(values[..., t, row], expected, rtol=2e-4, atol=1e-6)
    assert num_changed >= (14 if leave_out else 0)  # of 19 events; first ones only if backward


def test_pair_seen_once_explains_nothing(toolbox):
    grid = np.array([[0, 1], [2, 3]], np.int32)
    log = hmm.Events(grid, 0 * grid, 0 * grid, np.array([2, 2], np.int32))
    kernel = hmm.build_kernel([log], NUM_ITEMS, toolbox.settings())
    layout = time_major(lay_out(log))
    with_own = explain_by_kernel(kernel, layout, leave_out=False).available
    without = explain_by_kernel(kernel, layout, leave_out=True).available
    assert np.asarray(with_own[1]).all() and not np.asarray(without).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_lag_update_climbs_to_the_maximum(toolbox, log, smoothing):
    """Choices among subsets of lags: the update against a fine grid of lag weights."""
    kernel = hmm.build_kernel([log], NUM_ITEMS, toolbox.settings())
    sets = np.array([[1, 0], [1, 1], [1, 1], [0, 1]])  # usable lags
    times, chosen = np.array([4.0, 3.0, 2.0, 5.0]), np.array([4.0 + 3.0, 2.0 + 5.0])

    def objective(lags):
        return (chosen + smoothing) @ np.log(lags) - times @ np.log(sets @ lags)

    grid = np.linspace(0.001, 0.999, 999)
    best = max(grid, key=lambda first: objective(np.array([first, 1 - first])))
    values = []
    for _ in range(60):
        lags = np.asarray(kernel.lags, np.float64)
        values.append(objective(lags))
        chance = (times / (sets @ lags)) @ sets
        kernel = kernel.estimate(chosen, chance, smoothing)
    assert (np.diff(values) > -1e-6).all()
    np.testing.assert_allclose(kernel.lags, [best, 1 - best], atol=0.01)


def test_item_out_of_range_is_named(toolbox):
    with pytest.raises(ValueError, match=r"items\[1\] = 6"):
        hmm.build_kernel([(np.array([1, 6]), np.array([0, 2]))], NUM_ITEMS, toolbox.settings())


def test_item_without_neighbours_has_an_empty_row(toolbox):
    kernel = hmm.build_kernel([(np.array([2]), np.array([0, 1]))], NUM_ITEMS, toolbox.settings())
    assert (kernel.neighbours == NUM_ITEMS).all() and (kernel.totals == 0).all()
    assert (np.asarray(kernel.weights) == 0).all()
