"""Explicit durations: against the enumeration of all segmentations, by recovery and by frequency.

Frequency tests use fixed seeds; limits are set for about 1e-4 false alarms over all seeds.
"""

import dataclasses

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.counts import reseed, zero_counts
from recjax.hmm.expectation import add_counts
from recjax.hmm.learning import make_prior

NUM_STATES, MOST = 3, 3


def _with_durations(params, seed=7, most=MOST):
    rng = np.random.default_rng(seed)
    transition = np.where(np.eye(NUM_STATES, dtype=bool), 0, params.transition)
    duration = rng.dirichlet(np.ones(most), NUM_STATES).astype(np.float32)
    if most > 1:
        duration[0] = [0.0, 0.7, 0.3] + [0.0] * (most - 3)  # states may refuse to be short
    return dataclasses.replace(
        params, transition=transition / transition.sum(1, keepdims=True), duration=duration
    )


@pytest.fixture
def params(extreme):
    return _with_durations(extreme)


@pytest.fixture
def events(toolbox):
    return toolbox.random_events(np.random.default_rng(5), [5, 1, 3, 0, 2], 5)


def _segmentations(num_events, before=None):
    """All lists of stays (state, duration) that cover the events; the last may reach beyond."""
    for state in range(NUM_STATES):
        for duration in range(1, MOST + 1):
            if state == before:
                continue
            if duration >= num_events:
                yield [(state, duration)]
            else:
                for rest in _segmentations(num_events - duration, state):
                    yield [(state, duration), *rest]


def _enumerate(toolbox, params, user):
    """Every segmentation as (path [T], stays, events left, joint with the events, not the end)."""
    emission = toolbox.emission(params, *user)
    for stays in _segmentations(len(emission)):
        path = [state for state, duration in stays for _ in range(duration)]
        left = len(path) - len(emission)
        path = path[: len(emission)]
        value = float(params.start[0, path[0]])
        for t, state in enumerate(path):
            value *= emission[t, state]
        for number, (state, duration) in enumerate(stays):
            value *= params.duration[state, duration - 1]
            if number:
                before = stays[number - 1][0]
                value *= (1 - params.stop[before]) * params.transition[before, state]
        yield path, stays, left, value


def _complete(toolbox, params, user):
    """Those that end with the user, with the end."""
    return [
        (path, stays, value * params.stop[path[-1]])
        for path, stays, left, value in _enumerate(toolbox, params, user)
        if left == 0
    ]


def _users(toolbox, events):
    return [(row, user) for row, user in enumerate(toolbox.users(events)) if len(user[0])]


def test_inference_equals_enumeration(toolbox, params, events):
    likelihood = np.asarray(hmm.log_likelihood(params, events))
    posteriors = np.asarray(hmm.smoother(params, events))
    states, best = (np.asarray(part) for part in hmm.viterbi(params, events))
    for row, user in _users(toolbox, events):
        found = _complete(toolbox, params, user)
        joint = np.array([value for *_, value in found])
        np.testing.assert_allclose(likelihood[row], np.log(joint.sum()), rtol=1e-5)
        np.testing.assert_allclose(best[row], np.log(joint.max()), rtol=1e-5)
        length = len(user[0])
        assert states[row, :length].tolist() == found[joint.argmax()][0]
        expected = np.zeros((5, NUM_STATES))
        for path, _, value in found:
            expected[np.arange(length), path] += value / joint.sum()
        np.testing.assert_allclose(posteriors[row], expected, atol=2e-6)
    assert (states[3] == -1).all() and (posteriors[3] == 0).all() and likelihood[3] == 0


def _next_states(toolbox, params, user):
    """p(state of the next event, and whether it is the last of its stay | it follows) [K, 2]."""
    result = np.zeros((NUM_STATES, 2))
    for path, _, left, value in _enumerate(toolbox, params, user):
        if left:
            result[path[-1], int(left == 1)] += value
        else:
            moved = value * (1 - params.stop[path[-1]]) * params.transition[path[-1]]
            result[:, 1] += moved * params.duration[:, 0]
            result[:, 0] += moved * (1 - params.duration[:, 0])
    return result / result.sum()


def test_filter_and_next_item_equal_enumeration(toolbox, params, events):
    filtered = np.asarray(hmm.filter(params, events))
    following = np.asarray(hmm.next_item_distribution(params, events))
    for row, user in _users(toolbox, events):
        for t in range(len(user[0])):
            expected = np.zeros(NUM_STATES)
            for path, _, _, value in _enumerate(toolbox, params, [c[: t + 1] for c in user]):
                expected[path[-1]] += value
            np.testing.assert_allclose(filtered[row, t], expected / expected.sum(), atol=2e-6)
        expected = _next_states(toolbox, params, user).sum(1)
        item = toolbox.item_given(params, list(user[0]))
        np.testing.assert_allclose(following[row], expected @ item, atol=2e-6)
    new = params.start[0] @ toolbox.item_given(params, [])
    np.testing.assert_allclose(following[3], new, atol=2e-6)
    steps = np.zeros(5)
    for t in range(5):
        prefix = dataclasses.replace(events, lengths=np.full(5, t, np.int32))
        share = np.asarray(hmm.next_item_distribution(params, prefix))
        steps += np.where(events.lengths > t, np.log(share[np.arange(5), events.items[:, t]]), 0)
    np.testing.assert_allclose(hmm.item_log_likelihood(params, events), steps, rtol=1e-5)


def test_expected_counts_equal_enumeration(toolbox, events):
    """However packed; without kernel, whose counts do not depend on durations."""
    params = _with_durations(toolbox.random_params(np.random.default_rng(3), "plain"))
    expected = {
        "start": np.zeros((1, NUM_STATES)),
        "transition": np.zeros((NUM_STATES, NUM_STATES)),
        "stop": np.zeros(NUM_STATES),
        "go_on": np.zeros(NUM_STATES),
        "duration": np.zeros((NUM_STATES, MOST)),
        "action": np.zeros((NUM_STATES, 2)),
    }
    for _, user in _users(toolbox, events):
        found = _complete(toolbox, params, user)
        total = sum(value for *_, value in found)
        for path, stays, value in found:
            weight = value / total
            expected["start"][0, path[0]] += weight
            expected["stop"][path[-1]] += weight
            for number, (state, duration) in enumerate(stays):
                expected["duration"][state, duration - 1] += weight
                if number:
                    expected["go_on"][stays[number - 1][0]] += weight
                    expected["transition"][stays[number - 1][0], state] += weight
            np.add.at(expected["action"], (path, user[1]), weight)
    device = jax.tree.map(jax.numpy.asarray, params)
    counts = zero_counts(device)
    for layout in hmm.pack_events([events], 2, 8):
        counts, _ = add_counts(counts, device, layout)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(counts, name), value, atol=1e-5, err_msg=name)


def _chi_square(seen, expected):
    kept = expected > 0
    assert seen[~kept].sum() == 0
    return ((seen[kept] - expected[kept]) ** 2 / expected[kept]).sum()


def test_posterior_draws_follow_the_segmentations(toolbox, params):
    one = toolbox.random_events(np.random.default_rng(8), [4], 4)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 20_000, axis=0), one)
    drawn = np.asarray(hmm.sample_states(jax.random.key(0), params, many))
    expected, places = np.zeros(81), np.array([27, 9, 3, 1])
    for path, _, value in _complete(toolbox, params, toolbox.users(one)[0]):
        expected[np.array(path) @ places] += value
    seen = np.bincount(drawn @ places, minlength=81)
    expected *= 20_000 / expected.sum()
    assert _chi_square(seen, expected) < 110  # fewer than 60 degrees of freedom


def test_draws_follow_durations_moves_and_stops(params):
    _, states = hmm.sample_users(jax.random.key(2), params, 20_000, max_len=60)
    states = np.asarray(states)
    stays = np.zeros((NUM_STATES, MOST))
    moves = np.zeros((NUM_STATES, NUM_STATES + 1))
    for row in states[(states[:, -1] < 0)].tolist():
        path = row[: row.index(-1)]
        runs, before = [], None
        for state in path:
            if state == before:
                runs[-1][1] += 1
            else:
                runs.append([state, 1])
            before = state
        for number, (state, length) in enumerate(runs):
            stays[state, length - 1] += 1
            moves[state, runs[number + 1][0] if number + 1 < len(runs) else NUM_STATES] += 1
    for state in range(NUM_STATES):
        assert _chi_square(stays[state], stays[state].sum() * params.duration[state]) < 18.5
        way = np.append((1 - params.stop[state]) * params.transition[state], params.stop[state])
        assert _chi_square(moves[state], moves[state].sum() * way) < 21.2


def test_continuations_follow_the_posterior(toolbox, params):
    one = toolbox.random_events(np.random.default_rng(8), [3], 3)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 50_000, axis=0), one)
    drawn = hmm.sample_continuations(jax.random.key(0), params, many, max_new=3)
    following = _next_states(toolbox, params, toolbox.users(one)[0])
    item = following.sum(1) @ toolbox.item_given(params, list(one.items[0]))
    seen = np.bincount(np.asarray(drawn.items)[:, 3], minlength=6)
    assert _chi_square(seen, 50_000 * item) < 25.7  # 5 degrees
    ends = following[:, 1] @ params.stop
    seen = (np.asarray(drawn.lengths) == 4).sum()
    assert abs(seen - 50_000 * ends) < 4 * np.sqrt(50_000 * ends * (1 - ends))


def test_rows_of_draws_do_not_depend_on_the_batch(params):
    whole, states = hmm.sample_users(jax.random.key(5), params, 16, max_len=9)
    part, some = hmm.sample_users(jax.random.key(5), params, 8, max_len=9, first_row=8)
    np.testing.assert_array_equal(states[8:], some)
    np.testing.assert_array_equal(whole.items[8:], part.items)


@pytest.mark.slow
def test_stays_of_one_event_are_the_plain_chain(extreme, events):
    """D = 1 against no durations, with a transition that never stays."""
    one = _with_durations(extreme, most=1)
    plain = dataclasses.replace(one, duration=None)
    for function in (hmm.log_likelihood, hmm.smoother, hmm.filter, hmm.next_item_distribution):
        np.testing.assert_allclose(function(one, events), function(plain, events), atol=1e-6)
    for ours, theirs in zip(hmm.viterbi(one, events), hmm.viterbi(plain, events), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    key = jax.random.key(0)
    drawn = [hmm.sample_users(key, model, 50, max_len=9)[0] for model in (one, plain)]
    jax.tree.map(np.testing.assert_array_equal, *drawn)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_durations_are_recovered_and_the_likelihood_never_falls(toolbox, smoothing):
    true = _with_durations(toolbox.separated_params())
    events, _ = hmm.sample_users(jax.random.key(0), true, 1500, max_len=30)
    events = jax.tree.map(np.asarray, events)
    settings = toolbox.settings(
        num_iterations=30, smoothing=smoothing, max_duration=MOST, tolerance=1e-6
    )
    even = np.full((NUM_STATES, MOST), 1 / MOST, np.float32)
    found, history = hmm.fit_baum_welch(
        jax.random.key(1),
        lambda: [events],
        toolbox.sizes,
        settings,
        initial=dataclasses.replace(true, duration=even),
    )
    assert (np.diff([row["penalised"] for row in history]) > -1e-6).all()
    np.testing.assert_allclose(found.duration, true.duration, atol=0.05)
    np.testing.assert_allclose(found.transition, true.transition, atol=0.05)
    np.testing.assert_allclose(found.stop, true.stop, atol=0.05)
    hmm.validate_params(found)


def test_random_starts_restarts_and_kmeans_know_durations(toolbox, tmp_path):
    events = toolbox.random_events(np.random.default_rng(0), [6] * 30, 6)
    settings = toolbox.settings(num_iterations=3, max_duration=MOST)
    best, members = hmm.fit_restarts(
        jax.random.key(0),
        lambda: [events],
        toolbox.sizes,
        settings,
        state_counts=(2, 3),
        held_out=lambda: [events],
    )
    assert len(members) == 2 and best.duration.shape == (best.num_states, MOST)
    start = hmm.kmeans_params(jax.random.key(0), lambda: [events], toolbox.sizes, settings)
    np.savez(tmp_path / "model.npz", **hmm.to_arrays(start))
    with np.load(tmp_path / "model.npz") as arrays:
        again = hmm.from_arrays(dict(arrays))
    for params in (best, start, again):
        hmm.validate_params(params)
        assert np.isfinite(np.asarray(hmm.log_likelihood(params, events))).all()


def test_empty_states_are_reseeded(toolbox):
    params = _with_durations(toolbox.random_params(np.random.default_rng(3), "plain"))
    zeros = zero_counts(jax.tree.map(jax.numpy.asarray, params))
    counts = dataclasses.replace(zeros, action=np.array([[5.0, 2.0], [9.0, 1.0], [0.0, 0.0]]))
    prior = make_prior(params, 0.1, np.ones(6))
    found = reseed(jax.random.key(0), params, counts, prior)
    hmm.validate_params(found)
    np.testing.assert_array_equal(found.duration[2], params.duration[1])


def test_observed_stays_are_counted_and_too_long_ones_named(toolbox):
    events = toolbox.random_events(np.random.default_rng(0), [2], 4)
    events = dataclasses.replace(
        events, actions=np.array([[0, 0, 0, 0]], np.int32), lengths=np.array([2], np.int32)
    )
    settings = toolbox.settings(num_states=2, smoothing=0.0, max_duration=2)
    fit = {"states_of": lambda batch: batch.actions}
    found = hmm.fit_counts(lambda: [events], toolbox.sizes, settings, **fit)
    np.testing.assert_allclose(found.duration[0], [0, 1], atol=1e-6)
    longer = dataclasses.replace(events, lengths=np.array([3], np.int32))
    with pytest.raises(ValueError, match=r"states\[0\]: more than max_duration = 2 .* state 0"):
        hmm.fit_counts(lambda: [longer], toolbox.sizes, settings, **fit)


def test_cards_show_the_mean_stay(params):
    cards = hmm.describe_states(params, ["view", "buy"])
    _, states = hmm.sample_users(jax.random.key(0), params, 20_000, max_len=60)
    states = np.asarray(states)
    seen = np.bincount(states[states >= 0], minlength=NUM_STATES) / (states >= 0).sum()
    ends = states[np.arange(20_000), (states >= 0).sum(1) - 1]
    for card in cards:
        state = card["state"]
        dwell = params.duration[state] @ [1, 2, 3]
        assert card["dwell"] == pytest.approx(dwell, rel=1e-5)
        assert card["visit_share"] == pytest.approx(seen[state], abs=0.01)
        rate = (ends == state).sum() / (states == state).sum()
        assert card["stop"] == pytest.approx(rate, abs=0.01)


def test_durations_that_do_not_fit_are_named(toolbox, params):
    stays = np.array(params.transition)
    stays[1] = [0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"transition\[1, 1\] = 1.0: expected 0 with durations"):
        hmm.validate_params(dataclasses.replace(params, transition=stays))
    with pytest.raises(ValueError, match=r"duration: row 0 sums to 2"):
        hmm.validate_params(dataclasses.replace(params, duration=params.duration * 2))
    nobody = toolbox.random_events(np.random.default_rng(0), [0], 2)
    with pytest.raises(ValueError, match="parallel = True: expected False"):
        hmm.smoother(params, nobody, parallel=True)
    with pytest.raises(ValueError, match="max_duration = 0"):
        toolbox.settings(max_duration=0)
    with pytest.raises(ValueError, match="max_duration = 2 with one state"):
        toolbox.settings(max_duration=2, num_states=1)


def test_conditional_draws_refuse_durations_by_name(params, events):
    key = jax.random.key(0)
    for draw in (
        lambda: hmm.sample_fills(key, params, events, np.zeros(events.items.shape, bool)),
        lambda: hmm.sample_prefixes(key, params, events, 1),
        lambda: hmm.sample_bound(key, params, np.array([0]), max_len=3),
    ):
        with pytest.raises(ValueError, match="duration: conditional draws know no explicit"):
            draw()
