"""Segments of users, which choose the start distribution: against enumeration and by recovery."""

import dataclasses

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.counts import zero_counts
from recjax.hmm.events import lay_out
from recjax.hmm.expectation import add_counts


@pytest.fixture
def params(toolbox):
    return toolbox.random_params(np.random.default_rng(3), "plain", num_segments=2)


@pytest.fixture
def events(toolbox):
    events = toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 0, 2], 5)
    return dataclasses.replace(events, segments=np.array([1, 0, 1, 1, 0], np.int32))


def _paths(toolbox, params, events):
    """(row, segment, paths, joint) of every user."""
    for row, (user, segment) in enumerate(zip(toolbox.users(events), events.segments, strict=True)):
        if len(user[0]):
            yield row, segment, *toolbox.all_paths(params, *user, segment=segment)


def test_inference_equals_sum_over_paths(toolbox, params, events):
    likelihood = np.asarray(hmm.log_likelihood(params, events))
    posteriors = np.asarray(hmm.smoother(params, events))
    states, best = hmm.viterbi(params, events)
    for row, _, paths, joint in _paths(toolbox, params, events):
        np.testing.assert_allclose(likelihood[row], np.log(joint.sum()), rtol=1e-5)
        np.testing.assert_allclose(best[row], np.log(joint.max()), rtol=1e-5)
        assert tuple(np.asarray(states)[row, : len(paths[0])]) == paths[joint.argmax()]
        first = np.bincount(np.array(paths)[:, 0], joint / joint.sum(), minlength=3)
        np.testing.assert_allclose(posteriors[row, 0], first, atol=2e-6)


def test_next_item_of_a_new_user_is_that_of_his_segment(toolbox, params, events):
    own, nobody = toolbox.own_table(params), dataclasses.replace(events, lengths=np.zeros(5, int))
    expected = params.start[events.segments] @ own
    np.testing.assert_allclose(hmm.next_item_distribution(params, nobody), expected, atol=2e-6)
    one = dataclasses.replace(events, lengths=np.ones(5, np.int32))
    np.testing.assert_allclose(
        hmm.item_log_likelihood(params, one),
        np.log(expected[np.arange(5), events.items[:, 0]]),
        rtol=1e-5,
    )


def test_expected_starts_equal_enumeration_however_packed(toolbox, params, events):
    expected = np.zeros((2, 3))
    for _, segment, paths, joint in _paths(toolbox, params, events):
        for path, weight in zip(paths, joint / joint.sum(), strict=True):
            expected[segment, path[0]] += weight
    device = jax.tree.map(jax.numpy.asarray, params)
    for layouts in ([lay_out(events)], hmm.pack_events([events], 2, 7)):
        counts, values = zero_counts(device), []
        for layout in layouts:
            counts, value = add_counts(counts, device, layout)
            values.append(value)
        np.testing.assert_allclose(counts.start, expected, atol=1e-5)
        np.testing.assert_allclose(sum(values), hmm.log_likelihood(params, events).sum(), rtol=1e-5)


def test_segments_of_drawn_users_are_recovered(toolbox, params):
    """Start rows within .05, from draws whose first states follow their segment (chi-square)."""
    segments = (np.arange(4000) % 2).astype(np.int32)
    params.start[:] = [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]]
    params.action[:] = [[0.95, 0.05], [0.5, 0.5], [0.05, 0.95]]
    drawn, states = hmm.sample_users(jax.random.key(0), params, 4000, max_len=12, segments=segments)
    np.testing.assert_array_equal(drawn.segments, segments)
    for segment in (0, 1):
        seen = np.bincount(np.asarray(states)[segments == segment, 0], minlength=3)
        expected = 2000 * params.start[segment]
        assert ((seen - expected) ** 2 / expected).sum() < 18.5  # 1e-4 false alarms, 2 degrees
    drawn = jax.tree.map(np.asarray, drawn)
    found, history = hmm.fit_baum_welch(
        jax.random.key(1),
        lambda: [drawn],
        params.sizes,
        toolbox.settings(num_iterations=15),
        initial=dataclasses.replace(params, start=np.full((2, 3), 1 / 3, np.float32)),
    )
    np.testing.assert_allclose(found.start, params.start, atol=0.05)
    assert (np.diff([row["penalised"] for row in history]) > -1e-6).all()


def test_continuations_keep_segments_and_cards_name_them(params, events):
    longer = hmm.sample_continuations(jax.random.key(0), params, events, max_new=2)
    np.testing.assert_array_equal(longer.segments, events.segments)
    for shares, weights in ((None, [0.5, 0.5]), (np.array([3, 1]), [0.75, 0.25])):
        for card in hmm.describe_states(params, ["view", "buy"], segment_shares=shares):
            column = params.start[:, card["state"]]
            assert card["start_by_segment"] == pytest.approx(column.tolist())
            assert card["start"] == pytest.approx(weights @ column)


def test_random_start_differs_by_segment(toolbox):
    sizes = dataclasses.replace(toolbox.sizes, num_segments=2)
    start = hmm.initial_params(jax.random.key(0), sizes, toolbox.settings())
    hmm.validate_params(start)
    assert start.start.shape == (2, 3) and not np.allclose(start.start[0], start.start[1])


def test_segments_that_do_not_fit_are_named(toolbox, params, events):
    wrong = dataclasses.replace(events, segments=np.array([0, 2, 0, 9, 0]))
    with pytest.raises(ValueError, match=r"segments\[1\] = 2: expected 0 <= segment < 2"):
        hmm.log_likelihood(params, wrong)
    with pytest.raises(ValueError, match=r"segments\[0\] = -1"):
        hmm.sample_users(jax.random.key(0), params, 1, max_len=2, segments=np.array([-1]))
    plain = dataclasses.replace(events, segments=None)
    with pytest.raises(ValueError, match="segments: given in some batches"):
        list(hmm.pack_events([events, plain], 2, 7))
    with pytest.raises(ValueError, match="initial is of .*num_segments=2"):
        hmm.fit_baum_welch(
            jax.random.key(0), lambda: [plain], toolbox.sizes, toolbox.settings(), initial=params
        )
    flat = dataclasses.replace(params, start=params.start[0])
    with pytest.raises(ValueError, match=r"start has shape \(3,\): expected \[segments, states\]"):
        hmm.validate_params(flat)
