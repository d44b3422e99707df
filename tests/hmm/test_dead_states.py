"""Dead states, the padding that lets models of several sizes share one shape."""

import dataclasses

import jax
import numpy as np

from recjax.hmm import counts as counts_module
from recjax.hmm.passes import expected_counts


def _with_dead_state(params):
    """The model with its last state made unreachable."""
    start, transition = np.array(params.start), np.array(params.transition)
    start[:, -1], transition[:, -1] = 0, 0
    transition /= transition.sum(1, keepdims=True)
    padded = dataclasses.replace(
        params, start=start / start.sum(1, keepdims=True), transition=transition
    )
    return jax.tree.map(jax.numpy.asarray, padded)


def test_dead_states_stay_dead_and_out_of_the_prior(toolbox, extreme):
    params = _with_dead_state(extreme)
    events = toolbox.random_events(np.random.default_rng(0), [4, 3, 0, 4], 4)
    popularity = np.bincount(events.items.ravel(), minlength=6)
    prior = counts_module.make_prior(params, 0.5, popularity, num_alive=2)
    before = float(counts_module.log_prior(params, prior))
    assert np.isfinite(before)
    for seed in range(3):
        counts, _ = expected_counts(params, lambda: [events])
        params = counts_module.estimate(params, counts, prior)
        params = counts_module.reseed(jax.random.key(seed), params, counts, prior)
        assert (np.asarray(params.start)[:, -1] == 0).all()
        assert (np.asarray(params.transition)[:, -1] == 0).all()
    stop = np.array(params.stop)
    stop[-1] = 0.123  # nothing that a dead state holds may count
    np.testing.assert_allclose(
        counts_module.log_prior(params, prior),
        counts_module.log_prior(dataclasses.replace(params, stop=stop), prior),
        rtol=1e-6,
    )
