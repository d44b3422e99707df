from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from toy_training import OPTIMIZER

from recjax.optim import decays, make_optimizer, make_schedule


def test_schedule_warms_up_and_decays():
    schedule = make_schedule(replace(OPTIMIZER, warmup_steps=10, num_steps=110, learning_rate=1.0))
    values = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(values, [0, 0.5, 1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor", "lion"])
def test_every_optimizer_lowers_a_bowl(name):
    config = replace(OPTIMIZER, optimizer=name, schedule="constant", warmup_steps=0)
    optimizer, params = make_optimizer(config), {"kernel": jnp.array([1.0, -1.0])}
    state = optimizer.init(params)
    for _ in range(30):
        updates, state = optimizer.update({"kernel": 2 * params["kernel"]}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
    assert float(jnp.abs(params["kernel"]).max()) < 0.9


@pytest.mark.parametrize(("key", "value"), [("optimizer", "adamm"), ("schedule", "cosin")])
def test_unknown_name_is_refused_with_the_known_ones(key, value):
    with pytest.raises(ValueError, match=f"{value}.*known"):
        make_optimizer(replace(OPTIMIZER, **{key: value}))


def test_decay_touches_kernels_only():
    params = {"dense": {"kernel": 1, "bias": 1}, "items": {"embedding": 1}, "norm": {"scale": 1}}
    assert decays(params) == {
        "dense": {"kernel": True, "bias": False},
        "items": {"embedding": False},
        "norm": {"scale": False},
    }
