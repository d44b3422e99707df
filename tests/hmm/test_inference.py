"""Inference against the enumeration of all state paths."""

import jax
import numpy as np
import pytest

from recjax import hmm


@pytest.fixture
def events(toolbox):
    return toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 0, 2], 5)


def test_log_likelihood_equals_sum_over_paths(toolbox, model, events):
    found = hmm.log_likelihood(model, events)
    for row, user in enumerate(toolbox.users(events)):
        if len(user[0]):
            _, joint = toolbox.all_paths(model, *user)
            np.testing.assert_allclose(found[row], np.log(joint.sum()), rtol=1e-5)
    assert found[3] == 0  # a padding row contributes nothing


def test_smoother_equals_sum_over_paths(toolbox, model, events):
    found = np.asarray(hmm.smoother(model, events))
    for row, user in enumerate(toolbox.users(events)):
        expected = np.zeros_like(found[row])
        if len(user[0]):
            paths, joint = toolbox.all_paths(model, *user)
            for path, weight in zip(paths, joint / joint.sum(), strict=True):
                expected[np.arange(len(path)), path] += weight
        np.testing.assert_allclose(found[row], expected, atol=2e-6)


def test_filter_equals_smoother_of_prefix_without_end(toolbox, model, events):
    found = np.asarray(hmm.filter(model, events))
    for row, user in enumerate(toolbox.users(events)):
        for t in range(len(user[0])):
            paths, joint = toolbox.all_paths(model, *[column[: t + 1] for column in user])
            expected = np.zeros(model.num_states)
            for path, weight in zip(paths, joint, strict=True):
                expected[path[-1]] += weight / model.stop[path[-1]]
            np.testing.assert_allclose(found[row, t], expected / expected.sum(), atol=2e-6)
    assert (found[3] == 0).all()


def test_viterbi_equals_best_path(toolbox, model, events):
    states, best = hmm.viterbi(model, events)
    for row, user in enumerate(toolbox.users(events)):
        length = len(user[0])
        assert (np.asarray(states)[row, length:] == -1).all()
        if length:
            paths, joint = toolbox.all_paths(model, *user)
            assert tuple(np.asarray(states)[row, :length]) == paths[joint.argmax()]
            np.testing.assert_allclose(best[row], np.log(joint.max()), rtol=1e-5)


def test_next_item_distribution_equals_sum_over_paths(toolbox, model, events):
    found = np.asarray(hmm.next_item_distribution(model, events))
    for row, user in enumerate(toolbox.users(events)):
        item = toolbox.item_given(model, list(user[0]))
        if len(user[0]):
            paths, joint = toolbox.all_paths(model, *user)
            state = np.zeros(model.num_states)
            for path, weight in zip(paths, joint, strict=True):
                state[path[-1]] += weight / model.stop[path[-1]] * (1 - model.stop[path[-1]])
            state = state @ model.transition / state.sum()
        else:
            state = model.start[0]
        np.testing.assert_allclose(found[row], state @ item, atol=2e-6)


def test_next_item_slices_make_the_whole(extreme, events):
    whole = hmm.next_item_distribution(extreme, events)
    parts = [
        hmm.next_item_distribution(extreme, events, first_item=first, num_items=2)
        for first in (0, 2, 4)
    ]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-6)
    np.testing.assert_allclose(whole.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(hmm.next_item_scores(extreme, events), np.log(whole), rtol=1e-5)
    with pytest.raises(ValueError, match="items 4..6"):
        hmm.next_item_distribution(extreme, events, first_item=4, num_items=3)


def test_item_log_likelihood_follows_next_item_distribution(extreme, events):
    found = hmm.item_log_likelihood(extreme, events)
    expected = np.zeros(len(events.lengths))
    for t in range(int(events.lengths.max())):
        prefix = hmm.Events(events.items, events.actions, events.gaps, np.full(5, t, np.int32))
        share = np.asarray(hmm.next_item_distribution(extreme, prefix))
        here = np.log(share[np.arange(5), events.items[:, t]])
        expected += np.where(events.lengths > t, here, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_posterior_draws_follow_the_paths(toolbox, extreme):
    """Chi-square over all 27 paths of one user; 1e-4 false alarms at the fixed seed."""
    one = toolbox.random_events(np.random.default_rng(8), [3], 3)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 20_000, axis=0), one)
    drawn = np.asarray(hmm.sample_states(jax.random.key(0), extreme, many))
    paths, joint = toolbox.all_paths(extreme, *toolbox.users(one)[0])
    seen = np.bincount(drawn @ np.array([9, 3, 1]), minlength=27)
    expected = 20_000 * joint / joint.sum()
    assert (np.asarray(paths) @ np.array([9, 3, 1]) == np.arange(27)).all()
    assert ((seen - expected) ** 2 / expected).sum() < 61  # 26 degrees of freedom


def test_posterior_draw_of_a_row_does_not_depend_on_the_others(extreme, events):
    key = jax.random.key(4)
    whole = hmm.sample_states(key, extreme, events)
    part = hmm.sample_states(key, extreme, jax.tree.map(lambda leaf: leaf[2:], events), first_row=2)
    np.testing.assert_array_equal(whole[2:], part)


def test_padding_content_changes_nothing(extreme, events):
    real = np.arange(5)[None, :] < events.lengths[:, None]
    clean = hmm.Events(
        *[np.where(real, grid, 0) for grid in (events.items, events.actions, events.gaps)],
        events.lengths,
    )
    wide = jax.tree.map(lambda g: np.pad(g, ((0, 0), (0, 4))) if g.ndim == 2 else g, events)
    for function in (hmm.log_likelihood, hmm.item_log_likelihood):
        np.testing.assert_array_equal(function(extreme, events), function(extreme, clean))
        np.testing.assert_allclose(function(extreme, events), function(extreme, wide), rtol=1e-6)
    np.testing.assert_array_equal(hmm.smoother(extreme, events), hmm.smoother(extreme, clean))


def test_first_gap_is_not_read(extreme, events):
    other = hmm.Events(events.items, events.actions, events.gaps.copy(), events.lengths)
    other.gaps[:, 0] = 0
    np.testing.assert_array_equal(
        hmm.log_likelihood(extreme, events), hmm.log_likelihood(extreme, other)
    )


def test_long_sequence_is_stable(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(1), [10_000], 10_000)
    value = float(hmm.log_likelihood(extreme, events)[0])
    posteriors = np.asarray(hmm.smoother(extreme, events))
    emission = toolbox.emission(extreme, *toolbox.users(events)[0])
    alpha, expected = np.asarray(extreme.start[0], np.float64), 0.0
    go_on = (1 - extreme.stop)[:, None].astype(np.float64) * extreme.transition
    for t, here in enumerate(emission):  # the same recursion in float64
        alpha = (alpha @ go_on if t else alpha) * here
        expected += np.log(alpha.sum())
        alpha = alpha / alpha.sum()
    expected += np.log(alpha @ extreme.stop)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(posteriors.sum(-1), 1.0, atol=1e-3)


def test_impossible_events_get_minus_infinity_not_nan(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    params.action[:] = [1.0, 0.0]
    grid = np.zeros((1, 3), np.int32)
    events = hmm.Events(grid, np.array([[0, 1, 0]], np.int32), grid, np.array([3], np.int32))
    assert np.asarray(hmm.log_likelihood(params, events)) == -np.inf
    assert not np.isnan(np.asarray(hmm.smoother(params, events))).any()


def test_second_batch_of_a_shape_does_not_compile(toolbox, extreme, events, traced_once):
    from recjax.hmm import inference

    other = toolbox.random_events(np.random.default_rng(9), [5, 2, 0, 1, 3], 5)
    hmm.log_likelihood(extreme, events)
    growth = traced_once(inference._log_likelihood, lambda: hmm.log_likelihood(extreme, other))
    assert growth == 0


def test_works_under_jit(extreme, events):
    inside = jax.jit(hmm.log_likelihood)(extreme, jax.tree.map(jax.numpy.asarray, events))
    np.testing.assert_allclose(inside, hmm.log_likelihood(extreme, events), rtol=1e-6)
