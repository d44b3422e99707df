"""The plain family against hmmlearn, ragged lengths; the stop is the same in all states there."""

import jax
import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM

from recjax import hmm
from recjax.hmm.counts import estimate, make_prior
from recjax.hmm.passes import expected_counts

# hmmlearn 0.3.3 sets array shapes in place, which numpy 2.5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array")


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(2)
    num_states, num_items, stop = 4, 30, 0.2
    peer = CategoricalHMM(num_states, n_features=num_items, n_iter=1, init_params="", tol=0)
    peer.startprob_ = rng.dirichlet(np.ones(num_states))
    peer.transmat_ = rng.dirichlet(np.ones(num_states), num_states)
    peer.emissionprob_ = rng.dirichlet(np.ones(num_items), num_states)
    params = hmm.HmmParams(
        start=peer.startprob_[None].astype(np.float32),
        transition=peer.transmat_.astype(np.float32),
        stop=np.full(num_states, stop, np.float32),
        action=np.ones((num_states, 1), np.float32),
        gap=np.ones((num_states, 1), np.float32),
        mix=np.zeros(num_states, np.float32),
        items=hmm.PlainItems(peer.emissionprob_.T.astype(np.float32)),
    )
    lengths = rng.integers(1, 12, 50).astype(np.int32)
    grid = rng.integers(0, num_items, (50, 12)).astype(np.int32)
    events = hmm.Events(grid, 0 * grid, 0 * grid, lengths)
    flat = np.concatenate([row[:n] for row, n in zip(grid, lengths, strict=True)])[:, None]
    return peer, params, events, flat


def _end_term(lengths):
    return (lengths - 1) * np.log(0.8) + np.log(0.2)


def test_log_likelihood_equals_hmmlearn(pair):
    peer, params, events, _ = pair
    expected = [
        peer.score(row[:n, None]) for row, n in zip(events.items, events.lengths, strict=True)
    ]
    found = hmm.log_likelihood(params, events) - _end_term(events.lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_smoother_equals_hmmlearn(pair):
    peer, params, events, flat = pair
    expected = peer.predict_proba(flat, events.lengths)
    found = np.asarray(hmm.smoother(params, events))
    kept = np.arange(12)[None, :] < events.lengths[:, None]
    np.testing.assert_allclose(found[kept], expected, atol=1e-5)


def test_viterbi_equals_hmmlearn(pair):
    peer, params, events, flat = pair
    best, expected = peer.decode(flat, events.lengths)
    states, values = hmm.viterbi(params, events)
    kept = np.arange(12)[None, :] < events.lengths[:, None]
    np.testing.assert_array_equal(np.asarray(states)[kept], expected)
    np.testing.assert_allclose((values - _end_term(events.lengths)).sum(), best, rtol=1e-5)


def test_baum_welch_step_equals_hmmlearn(pair):
    peer, params, events, flat = pair
    peer.fit(flat, events.lengths)  # one iteration; the fixture is used up after this test
    device = jax.tree.map(jax.numpy.asarray, params)
    counts, _ = expected_counts(device, lambda: [events])
    found = estimate(device, counts, make_prior(device, 0.0, np.zeros(30)))
    np.testing.assert_allclose(found.start[0], peer.startprob_, atol=1e-5)
    np.testing.assert_allclose(found.transition, peer.transmat_, atol=1e-5)
    np.testing.assert_allclose(found.items.table.T, peer.emissionprob_, atol=1e-5)
    np.testing.assert_allclose(found.stop @ np.asarray(counts.stop + counts.go_on), 50, rtol=1e-5)
