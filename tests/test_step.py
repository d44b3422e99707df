from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_training import ToyBatches, ToyTask

from recjax.optim import frozen
from recjax.step import create_state, make_train_step, moving_average, record_evaluation
from recjax.train import with_rows

SEEDS = jnp.asarray([3, 4], jnp.uint32)
PARAMS = {"kernel": jnp.ones((2, 3)), "offset": jnp.ones((2, 1))}


class TwoParts(ToyTask):
    """The toy task with an offset beside the kernel."""

    def loss(self, params, batch, constants, *, keys, train):
        batch = batch | {"y": batch["y"] - params["offset"]}
        return super().loss(params, batch, constants, keys=keys, train=train)


def run(num_steps, **settings):
    """States after each step of plain gradient descent."""
    optimizer = optax.sgd(0.1)
    state = create_state(PARAMS, SEEDS, optimizer=optimizer, averages="ema_decay" in settings)
    step = jax.jit(make_train_step(TwoParts(), optimizer, None, **settings))
    states, batches, metrics = [state], ToyBatches(), []
    for _ in range(num_steps):
        state, values = step(state, with_rows(next(batches)), {})
        states.append(state)
        metrics.append(values)
    return states, metrics


def test_average_follows_the_parameters_and_is_what_is_judged():
    states, _ = run(30, ema_decay=0.6)
    expected = np.ones((2, 3))
    for step, state in enumerate(states[1:]):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.asarray(state.params["kernel"])
        np.testing.assert_allclose(state.average["kernel"], expected, rtol=1e-5)
    last = record_evaluation(states[-1], jnp.ones(2), patience=0)
    np.testing.assert_array_equal(last.best_params["kernel"], states[-1].average["kernel"])
    assert np.any(states[-1].average["kernel"] != states[-1].params["kernel"])


def test_average_of_a_stopped_member_stays():
    states, _ = run(1, ema_decay=0.6)
    stopped = record_evaluation(states[-1], jnp.asarray([jnp.nan, 1.0]), patience=1)
    step = jax.jit(make_train_step(TwoParts(), optax.sgd(0.1), None, ema_decay=0.6))
    after, _ = step(stopped, with_rows(next(ToyBatches())), {})
    same = after.average["kernel"] == stopped.average["kernel"]
    assert np.all(same[0]) and not np.any(same[1])


def test_without_average_the_parameters_are_judged():
    states, _ = run(1)
    assert states[-1].average is None and states[-1].judged_params is states[-1].params


def test_early_steps_leave_the_start_behind():
    moved = moving_average({"a": jnp.zeros(1)}, {"a": jnp.ones(1)}, jnp.zeros((), jnp.int32), 0.999)
    np.testing.assert_allclose(moved["a"], 0.9)


@pytest.mark.parametrize("held", ["kernel", "offset"])
def test_frozen_parameters_have_no_gradient(held):
    states, metrics = run(2, frozen=partial(frozen, rules=(held,)))
    free = ({"kernel", "offset"} - {held}).pop()
    np.testing.assert_array_equal(states[-1].params[held], PARAMS[held])
    assert np.all(states[-1].params[free] != PARAMS[free])
    _, all_metrics = run(1)
    assert np.all(metrics[0]["train/grad_norm"] < all_metrics[0]["train/grad_norm"])
