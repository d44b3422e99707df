"""Stepwise EM: one full step is batch EM, many small ones get as far, in bounded memory."""

import weakref

import grain
import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm import stepwise

NUM_USERS, MAX_LEN = 1600, 16


@pytest.fixture(scope="module")
def log(toolbox):
    """Users of a known model."""
    params = toolbox.separated_params()
    events, _ = hmm.sample_users(jax.random.key(0), params, NUM_USERS, max_len=MAX_LEN)
    return jax.tree.map(np.asarray, events)


def _stream(events, batch_size, order=None):
    order = np.arange(len(events.lengths)) if order is None else order

    def batches():
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            yield jax.tree.map(lambda leaf, rows=rows: leaf[rows], events)

    return batches


def _equal(left, right, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), left, right)


@pytest.mark.parametrize("with_kernel", [False, True])
def test_one_step_over_the_whole_log_is_an_iteration_of_batch_em(toolbox, log, with_kernel):
    settings = toolbox.settings(num_iterations=1, smoothing=0.3)
    whole = _stream(log, NUM_USERS)
    kernel = hmm.build_kernel(whole(), 6, settings) if with_kernel else None
    category = np.array([0, 1, 0, 2, 1, 0]) if with_kernel else None
    start = hmm.initial_params(
        jax.random.key(1), toolbox.sizes, settings, item_category=category, kernel=kernel
    )
    arguments = (jax.random.key(0), whole, toolbox.sizes, settings)
    batch, batch_rows = hmm.fit_baum_welch(*arguments, initial=start)
    step, step_rows = hmm.fit_stepwise(*arguments, initial=start, step_offset=0.0)
    _equal(batch, step, 1e-6)
    assert step_rows[0]["step"] == 1
    np.testing.assert_allclose(
        step_rows[0]["log_likelihood"], batch_rows[0]["log_likelihood"], rtol=1e-6
    )


def test_small_steps_reach_the_likelihood_of_batch_em(toolbox, log):
    """10 passes end within .005 per event of 60 iterations; 5 of them are beyond 5 iterations."""
    key, batches = jax.random.key(0), _stream(log, 64)
    reached = {}
    for iterations in (5, 60):
        settings = toolbox.settings(num_iterations=iterations, smoothing=0.01)
        params, _ = hmm.fit_baum_welch(key, batches, toolbox.sizes, settings)
        reached[iterations] = hmm.log_likelihood_per_event(params, batches)
    settings = toolbox.settings(num_iterations=10, smoothing=0.01)
    params, history = hmm.fit_stepwise(key, batches, toolbox.sizes, settings)
    hmm.validate_params(params)
    values = [row["log_likelihood"] for row in history]
    assert len(values) == 10 and values[4] > reached[5] + 0.05
    assert hmm.log_likelihood_per_event(params, batches) > reached[60] - 0.005


def test_running_mean_is_that_of_the_definition(toolbox, log):
    """S <- (1 - eta) S + eta (N / n) s, over its weight, against U and its two factors."""
    schedule = stepwise._Schedule(0.8, 1.0, 1000)
    rng = np.random.default_rng(0)
    kept, mean, weight = np.zeros(4), np.zeros(4), 0.0
    for step, events in enumerate([50, 50, 20, 50, 7], start=1):
        counts = rng.random(4)
        factor, scale = schedule.next(events)
        kept = factor * kept + counts
        eta = 1 - (1 - (step + 1.0) ** -0.8) ** (events / 50)
        mean = (1 - eta) * mean + eta * (1000 / events) * counts
        weight = (1 - eta) * weight + eta
        np.testing.assert_allclose(scale * kept, mean / weight, rtol=1e-5)


def test_grain_streams_are_read_in_an_order_of_their_own(toolbox, log):
    """Both faces of Grain: a MapDataset reshuffled every pass, and a DataLoader."""
    fields = ("items", "actions", "gaps", "lengths")

    class Source:
        def __len__(self):
            return NUM_USERS

        def __getitem__(self, row):
            return {name: getattr(log, name)[row] for name in fields}

    dataset = grain.MapDataset.source(Source()).seed(0).shuffle().batch(64)
    passes = iter(range(100))

    def reshuffled():
        epoch = next(passes)
        ordered = dataset.repeat(epoch + 1)[epoch * len(dataset) : (epoch + 1) * len(dataset)]
        return (hmm.Events(**batch) for batch in ordered)

    def loaded():
        sampler = grain.samplers.IndexSampler(NUM_USERS, shuffle=True, seed=0, num_epochs=1)
        loader = grain.DataLoader(
            data_source=Source(),
            sampler=sampler,
            operations=[grain.transforms.Batch(64)],
            worker_count=0,
        )
        return (hmm.Events(**batch) for batch in loader)

    first, second = (np.concatenate([b.items for b in reshuffled()]) for _ in range(2))
    assert (first != second).any() and first.sum() == second.sum()
    settings = toolbox.settings(num_iterations=2)
    held_out = _stream(log, 64)
    for batches in (reshuffled, loaded):
        params, history = hmm.fit_stepwise(
            jax.random.key(0), batches, toolbox.sizes, settings, held_out=held_out
        )
        assert history[-1]["held_out"] > history[0]["log_likelihood"] + 0.02
        found = hmm.log_likelihood_per_event(params, held_out)
        np.testing.assert_allclose(found, max(row["held_out"] for row in history), rtol=1e-6)


def test_rows_of_the_history_and_early_stop(toolbox, log):
    held_out = _stream(log, 64)
    settings = toolbox.settings(num_iterations=3)
    arguments = (jax.random.key(0), _stream(log, 64), toolbox.sizes)
    _, history = hmm.fit_stepwise(*arguments, settings, held_out=held_out, evaluate_every=2)
    assert [row["step"] for row in history][:2] == [2.0, 4.0]
    settings = toolbox.settings(num_iterations=30, tolerance=0.02)
    _, history = hmm.fit_stepwise(*arguments, settings, held_out=held_out)
    assert 1 < len(history) < 10


def test_memory_does_not_grow_with_the_users(toolbox, log):
    """Of 100 batches a pass at most three are alive: the first, the one packed, the one before."""
    alive, most = weakref.WeakSet(), []

    class Grid(np.ndarray):  # plain arrays take weak references only as views of a class
        __hash__ = object.__hash__

    def batches():
        for events in _stream(log, 16)():
            grid = events.items.copy().view(Grid)
            alive.add(grid)
            most.append(len(alive))
            yield hmm.Events(grid, events.actions, events.gaps, events.lengths)
            del events, grid

    settings = toolbox.settings(num_iterations=1)
    hmm.fit_stepwise(jax.random.key(0), batches, toolbox.sizes, settings)
    assert len(most) == 2 * 100 and max(most) <= 3


def test_bad_arguments_are_named(toolbox, log):
    batches, settings = _stream(log, 64), toolbox.settings(num_iterations=1)

    def fit(**changes):
        hmm.fit_stepwise(jax.random.key(0), batches, toolbox.sizes, settings, **changes)

    for changes, message in (
        ({"step_exponent": 0.5}, r"step_exponent = 0.5: expected 0.5 < kappa <= 1"),
        ({"step_offset": -1.0}, r"step_offset = -1.0"),
        ({"evaluate_every": 0}, r"evaluate_every = 0"),
        ({"evaluate_every": 2}, r"evaluate_every = 2: expected held_out"),
        ({"popularity": np.zeros(6)}, "no events"),
        ({"popularity": np.ones(5)}, r"popularity has shape \(5,\): expected \(6,\)"),
        ({"item_category": np.array([0, -1, 0, 0, 0, 0])}, r"item_category\[1\] = -1"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(**changes)
    with pytest.raises(ValueError, match=r"items\[0, 0\] = 9"):
        wrong = jax.tree.map(np.array, log)
        wrong.items[0, 0] = 9
        hmm.fit_stepwise(jax.random.key(0), _stream(wrong, 64), toolbox.sizes, settings)
    start = hmm.initial_params(jax.random.key(0), hmm.HmmSizes(7, 2, 4), settings)
    with pytest.raises(ValueError, match="initial is of .*num_items=7"):
        fit(initial=start)
