from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_params import CONFIG, flat, make_params, moved, scanned

from recjax.models import unstack_layers
from recjax.optim import make_optimizer
from recjax.optim.settings import OPTIMIZERS, ROW_OPTIMIZERS

TABLE = "encoder/embedding/item/table"
GRADS = make_params(seed=1)


def steps(config, params, grads=GRADS, count=2):
    """Parameters after a few steps with the same gradient, and the optimizer's state."""
    optimizer = make_optimizer(config)
    state = jax.jit(optimizer.init)(params)

    def one(carry, _):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda carry: jax.lax.scan(one, carry, None, count)[0])((params, state))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_bowl(name):
    optimizer, params = make_optimizer(replace(CONFIG, optimizer=name)), {"kernel": jnp.eye(2)}

    def one(carry, _):
        params, state = carry
        updates, state = optimizer.update({"kernel": 2 * params["kernel"]}, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(one, carry, None, 30))(carry)
    assert float(jnp.abs(params["kernel"]).max()) < 0.9


@pytest.mark.parametrize("name", ["adamw", "lamb", "adafactor", "muon"])  # others: per element
def test_scanned_layers_move_as_written_out_ones(name):
    config = replace(CONFIG, optimizer=name, layer_decay=0.5, clip_norm=1.0)
    one_by_one, _ = steps(config, make_params())
    stacked, _ = steps(config, scanned(make_params()), scanned(GRADS))
    stacked = {**stacked, "encoder": unstack_layers(stacked["encoder"])}
    for path, value in flat(one_by_one).items():
        np.testing.assert_allclose(flat(stacked)[path], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_decoupled_weight_decay_is_the_learning_rate_times_the_kernel(name):
    params, zeros = make_params(), jax.tree.map(jnp.zeros_like, GRADS)
    decayed, _ = steps(replace(CONFIG, optimizer=name, weight_decay=0.5), params, zeros, count=1)
    for path, value in flat(params).items():
        factor = 1 - 0.1 * 0.5 * path.endswith("kernel")
        np.testing.assert_allclose(flat(decayed)[path], factor * value, rtol=1e-5)


def test_muon_makes_each_matrix_of_a_kernel_near_orthogonal():
    config = replace(CONFIG, optimizer="muon", weight_decay=0.0, learning_rate=1.0)
    params = make_params()
    after, _ = steps(config, params, count=1)
    path = "encoder/layers_0/attention/query_key_value/kernel"
    update = flat(params)[path] - flat(after)[path]
    for part in range(3):  # query, key and value each for itself; rms 0.2 as Adam's about is
        singular = np.linalg.svd(update[:, part].reshape(4, 4), compute_uv=False)
        assert np.all(singular > 0.4 * 0.2 * 2) and np.all(singular < 1.4 * 0.2 * 2)


@pytest.mark.parametrize("name", ROW_OPTIMIZERS)
def test_table_optimizer_keeps_numbers_per_row(name):
    _, state = steps(replace(CONFIG, table_optimizer=name), make_params())
    shapes = [leaf.shape for path, leaf in flat(state).items() if path.endswith(TABLE)]
    assert (5,) in shapes and shapes.count((5, 4)) == (name == "adam_rows")


def test_l2_is_part_of_the_gradient_and_clipped_with_it():
    config = replace(CONFIG, optimizer="sgd", l2=0.5, clip_norm=0.1)
    params = make_params()
    grads = {
        path: value + 0.5 * flat(params)[path] * path.endswith("kernel")
        for path, value in flat(GRADS).items()
    }
    norm = np.sqrt(sum(np.sum(value**2) for value in grads.values()))
    after, _ = steps(config, params, count=1)
    for path, value in flat(after).items():
        expected = flat(params)[path] - 0.1 * grads[path] * 0.1 / norm
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *ROW_OPTIMIZERS])
def test_frozen_parameters_do_not_move_and_have_no_state(name):
    table = name in ROW_OPTIMIZERS
    config = replace(CONFIG, freeze=("encoder/(embedding|layers_0).*",), l2=0.1, table_l2=0.1)
    config = replace(config, **{"table_optimizer" if table else "optimizer": name})
    params = make_params()
    after, state = steps(config, params)
    trained = {path for path in flat(params) if "layers_1" in path or "head" in path}
    assert moved(params, after) == trained
    assert not any("embedding" in path or "layers_0" in path for path in flat(state))
