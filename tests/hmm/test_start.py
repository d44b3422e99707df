"""k-means start: clusters become states, and EM from there ends at least as high."""

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm import start as start_module

NUM_STATES, NUM_ITEMS = 4, 40
SIZES = hmm.HmmSizes(NUM_ITEMS, 2)


@pytest.fixture(scope="module")
def true():
    """Four states of ten items each, that users hardly leave; two share their action."""
    items = np.full((NUM_ITEMS, NUM_STATES), 0.1 / 30)
    for state in range(NUM_STATES):
        items[10 * state : 10 * state + 10, state] = 0.9 * np.arange(1, 11) / 55
    return hmm.HmmParams(
        start=np.array([[0.4, 0.3, 0.2, 0.1]], np.float32),
        transition=(0.9 * np.eye(4) + 0.025).astype(np.float32),
        stop=np.full(4, 0.1, np.float32),
        action=np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32),
        gap=np.ones((4, 1), np.float32),
        mix=np.zeros(4, np.float32),
        items=hmm.PlainItems((items / items.sum(0)).astype(np.float32)),
    )


@pytest.fixture(scope="module")
def batches(true):
    events, _ = hmm.sample_users(jax.random.key(0), true, 1500, max_len=20)
    events = jax.tree.map(np.asarray, events)
    return lambda: (_rows(events, first, 500) for first in (0, 500, 1000))


def _rows(events, first, size):
    return jax.tree.map(lambda leaf: leaf[first : first + size], events)


def _settings(toolbox, **changes):
    return toolbox.settings(num_states=NUM_STATES, smoothing=0.01, **changes)


def test_separated_states_are_found(toolbox, true, batches):
    """At the start within .45 in total variation of the truth, within .1 after EM."""
    settings, key = _settings(toolbox, num_iterations=15), jax.random.key(1)
    start = hmm.kmeans_params(key, batches, SIZES, settings, sample_users=400)
    hmm.validate_params(start)
    fitted, history = hmm.fit_baum_welch(key, batches, SIZES, settings, initial=start)
    for params, most in ((start, 0.45), (fitted, 0.1)):
        table = np.asarray(params.items.table)
        apart = np.abs(table[:, :, None] - true.items.table[:, None, :]).sum(0) / 2
        order = apart.argmin(0)
        assert sorted(order) == [0, 1, 2, 3] and apart.min(0).max() < most
    np.testing.assert_allclose(np.asarray(fitted.action)[order], true.action, atol=0.05)
    _, random_history = hmm.fit_baum_welch(key, batches, SIZES, settings)
    assert history[0]["penalised"] > random_history[0]["penalised"] + 0.2
    assert history[-1]["penalised"] > random_history[-1]["penalised"] - 1e-4


def test_hashed_histograms_keep_their_distances():
    """2,000 items in 256 columns: the error of squared distances is that of a random projection.

    Its variance is at most 2 d^4 / 256 for users at distance d, here below 2^(1/2) (Weinberger et
    al., Lemma 2); the root mean square over 400 pairs at a fixed seed must keep to it.
    """
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 2000, (40, 12)).astype(np.int32)
    grid[20:] = grid[:20]  # pairs of alike users, but for
    grid[20:, :6] = rng.integers(0, 2000, (20, 6))  # half of their events
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.full(40, 12, np.int32))
    points = start_module._Histograms(rng, hmm.HmmSizes(2000)).of(events)
    assert points.shape == (40, 256)
    exact = np.zeros((40, 2000))
    np.add.at(exact, (np.arange(40)[:, None], grid), 1 / 12)
    exact = np.sqrt(exact)

    def squared(rows):
        return np.square(rows[:20, None] - rows[None, 20:]).sum(-1)

    error = squared(points) - squared(exact)
    assert 0 < np.sqrt(np.square(error).mean()) < 2 * np.sqrt(2 / 256)


def test_sample_is_even_and_bounded():
    """A reservoir of 50 out of 1,000 users: every tenth of the stream within 5 deviations."""
    sizes, hits = hmm.HmmSizes(1000), np.zeros(10)
    grid = np.arange(1000, dtype=np.int32)[:, None]
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.ones(1000, np.int32))

    class Identity:
        def of(self, events):
            return np.asarray(events.items, np.float32)

    def batches():
        return (_rows(events, first, 90) for first in range(0, 1000, 90))

    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample, num_events = start_module._sample(rng, batches, sizes, Identity(), 50)
        assert sample.shape == (50, 1) and num_events == 1000
        assert len(np.unique(sample)) == 50
        hits += np.bincount(sample[:, 0].astype(int) // 100, minlength=10)
    assert np.abs(hits - 200).max() < 5 * np.sqrt(200)


def test_kernel_category_and_features_are_taken_along(toolbox, batches):
    settings, key = _settings(toolbox, num_iterations=2), jax.random.key(1)
    kernel = hmm.build_kernel(batches(), NUM_ITEMS, settings)
    category = np.arange(NUM_ITEMS) // 5
    start = hmm.kmeans_params(
        key, batches, SIZES, settings, kernel=kernel, item_category=category, sample_users=400
    )
    hmm.validate_params(start)
    assert isinstance(start.items, hmm.CategoryItems) and start.kernel is kernel
    assert (start.mix == 0.5).all()
    features = np.eye(8, dtype=np.float32)[category]
    start = hmm.kmeans_params(
        key, batches, SIZES, settings, item_features=features, sample_users=400
    )
    hmm.validate_params(start)
    by_ten = np.asarray(start.items.table).reshape(4, 10, 4).sum(1)
    assert sorted(by_ten.argmax(0)) == [0, 1, 2, 3]  # each state leans to ten items of its own


def test_alike_users_still_give_a_start(toolbox):
    grid = np.zeros((6, 3), np.int32)
    events = hmm.Events(grid, grid, grid, np.full(6, 3, np.int32))
    settings = _settings(toolbox)
    hmm.validate_params(hmm.kmeans_params(jax.random.key(0), lambda: [events], SIZES, settings))


def test_counts_of_observed_states_are_a_start(toolbox, batches):
    settings = toolbox.settings(num_states=2, num_iterations=3)
    start = hmm.fit_counts(batches, SIZES, settings, states_of=lambda events: events.actions)
    arguments = (jax.random.key(0), batches, SIZES, settings)
    _, history = hmm.fit_baum_welch(*arguments, initial=start)
    _, random_history = hmm.fit_baum_welch(*arguments)
    assert history[0]["log_likelihood"] > random_history[0]["log_likelihood"] + 0.1


def test_bad_arguments_are_named(toolbox, batches):
    settings = _settings(toolbox)

    def start(batches=batches, **changes):
        hmm.kmeans_params(jax.random.key(0), batches, SIZES, settings, **changes)

    few = [jax.tree.map(lambda leaf: leaf[:3], next(batches()))]
    wrong = [jax.tree.map(np.array, next(batches()))]
    wrong[0].items[7, 0] = 40
    for changes, message in (
        ({"sample_users": 3}, "sample_users = 3: expected at least 4 states"),
        ({"stay": 1.0}, "stay = 1.0: expected 0 <= stay < 1"),
        ({"batches": lambda: few}, "3 users with events: expected at least 4 states"),
        ({"batches": lambda: []}, "0 users with events"),
        ({"batches": lambda: wrong}, r"items\[7, 0\] = 40"),
        ({"item_category": np.zeros(3, int)}, r"item_category has shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            start(**changes)
