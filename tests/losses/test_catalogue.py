import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from recjax.losses import CatalogueLoss, chunked_cross_entropy
from recjax.parallel import make_mesh
from recjax.parallel.rules import BATCH_AXES, TABLE_AXES, flax_rules

NUM_IDS = 25  # of 27 rows: the last two are no items


def _problem(rows=3, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(rows, 4, 6)), dtype)
    table, bias = jnp.float32(rng.normal(size=(27, 6))), jnp.float32(rng.normal(size=27))
    bias = bias.at[NUM_IDS:].set(-jnp.inf)
    targets = jnp.int32(rng.integers(5, NUM_IDS, (rows, 4))).at[0, 1].set(1)
    return hidden, table, bias, targets, jnp.float32(rng.uniform(0.5, 2, (rows, 4)))


def _loss(settings, arguments, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(arguments[0]))
    return CatalogueLoss(**settings)(*arguments, keys=keys, num_ids=NUM_IDS)


def _normalisers(settings, num_draws):
    """Estimates of the sum of exponentials, float64 [num_draws, 4], and the exact ones [4]."""
    hidden, table, bias, targets, _ = _problem(rows=1)
    targets = targets.at[0, 1].set(7)

    def one_slot(s, key):
        part = (hidden[:, s : s + 1], table, bias, targets[:, s : s + 1], jnp.ones((1, 1)))
        return CatalogueLoss(**settings)(*part, keys=key[None], num_ids=NUM_IDS)[0]

    keys = jax.random.split(jax.random.key(3), num_draws)
    draws = jax.vmap(lambda key: jnp.stack([one_slot(s, key) for s in range(4)]))
    losses = np.asarray(jax.jit(draws)(keys), np.float64)
    logits = np.asarray(hidden[0] @ table[5:NUM_IDS].T + bias[None, 5:NUM_IDS], np.float64)
    target = logits[np.arange(4), np.asarray(targets[0]) - 5]
    return np.exp(losses + target), np.exp(logits).sum(axis=1)


@pytest.mark.parametrize("proposal", ["uniform", "log_uniform"])
def test_sampled_normaliser_is_an_unbiased_estimate_of_the_full_one(proposal):
    settings = {"loss": "sampled", "num_negatives": 3, "negative_proposal": proposal}
    found, exact = _normalisers(settings, 20_000)
    errors = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - exact) < 4 * errors).all()
    assert (errors < 0.02 * exact).all()  # sharp enough to see a wrong correction


def test_many_negatives_give_the_full_loss_and_its_gradient():
    problem = _problem()
    hidden, table, bias, targets, weights = problem
    settings = {"loss": "sampled", "num_negatives": 200_000}

    def full(hidden):
        flat = (hidden.reshape(-1, 6), table, bias, targets.reshape(-1), weights.reshape(-1))
        return chunked_cross_entropy(*flat, chunk=9)

    def sampled(hidden):
        return _loss(settings, (hidden, *problem[1:]))

    found, exact = sampled(hidden), full(hidden)
    np.testing.assert_allclose(found[0], exact[0], rtol=5e-3)
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-6)
    slopes = [jax.grad(lambda x, f=f: f(x)[0])(hidden) for f in (full, sampled)]
    np.testing.assert_allclose(*slopes, atol=0.05)
    in_two = _loss({"loss": "full", "loss_chunk": 9}, problem)
    np.testing.assert_allclose(in_two, exact, rtol=1e-6)


@pytest.mark.parametrize("loss", ["sampled", "gbce"])
def test_special_targets_and_hits_take_no_part_and_gradients_are_finite(loss):
    hidden, table, bias, targets, weights = _problem()

    def total(hidden, table, bias, targets):
        return _loss({"loss": loss, "num_negatives": 300}, (hidden, table, bias, targets, weights))

    value, weight = total(hidden, table, bias, targets)
    assert float(weight) == pytest.approx(float(weights.sum() - weights[0, 1]))
    moved = total(hidden.at[0, 1].add(3), table, bias, targets)
    assert float(moved[0]) == float(value)
    slopes = jax.grad(lambda *x: total(*x, targets)[0], argnums=(0, 1, 2))(hidden, table, bias)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert np.abs(slopes[1][:5]).max() == np.abs(slopes[1][NUM_IDS:]).max() == 0
    one_item = jnp.full_like(targets, 5)
    only = CatalogueLoss(loss=loss, num_negatives=4)
    keys = jax.random.split(jax.random.key(0), 3)
    found = only(hidden, table, bias, one_item, weights, keys=keys, num_ids=6)  # hits, nothing else
    assert np.isfinite(found[0]) and (loss == "gbce" or float(found[0]) == 0)


@pytest.mark.parametrize("axes", [{"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}], ids=str)
def test_table_cut_over_devices_gives_the_same_and_is_not_gathered(axes):
    hidden, table, bias, targets, weights = _problem(rows=8)
    table, bias = jnp.pad(table, ((0, 5), (0, 0))), jnp.pad(bias, (0, 5))
    keys = jax.random.split(jax.random.key(0), 8)

    def slopes(hidden, table, bias, targets, weights, keys):
        def total(*given):
            kinds = (CatalogueLoss(loss=name, num_negatives=7) for name in ("sampled", "gbce"))
            found = [kind(*given, targets, weights, keys=keys, num_ids=NUM_IDS) for kind in kinds]
            return found[0][0] + 2 * found[1][0]

        return jax.value_and_grad(total, argnums=(0, 1, 2))(hidden, table, bias)

    arguments = (hidden, table, bias, targets, weights, keys)
    expected = jax.jit(slopes)(*arguments)
    mesh = make_mesh(axes)
    rows, items = (NamedSharding(mesh, P(names)) for names in (BATCH_AXES, TABLE_AXES))
    with jax.set_mesh(mesh), nn.logical_axis_rules(flax_rules(mesh)):
        cut = jax.jit(slopes, in_shardings=(rows, items, items, rows, rows, rows))
        compiled = cut.lower(*arguments).compile()
        found = compiled(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)
    assert not re.search(r"= f32\[32,6\]\S* all-gather", compiled.as_text())


def test_each_setting_changes_the_loss():
    base = CatalogueLoss(loss="sampled", num_negatives=8)
    changes = [
        {"loss": "full"},
        {"loss": "gbce"},
        {"num_negatives": 9},
        {"negative_proposal": "log_uniform"},
        {"loss": "gbce", "gbce_calibration": 0.1},
    ]
    settings = [dataclasses.asdict(dataclasses.replace(base, **change)) for change in changes]
    found = {float(_loss(each, _problem())[0]) for each in [dataclasses.asdict(base), *settings]}
    assert len(found) == 6


def test_bfloat16_hidden_states_give_float32_sums():
    total, _ = _loss({"loss": "sampled", "num_negatives": 8}, _problem(dtype=jnp.bfloat16))
    exact, _ = _loss({"loss": "sampled", "num_negatives": 8}, _problem())
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, exact, rtol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "softmax"}, "loss must be one of full, sampled, gbce, got 'softmax'"),
        ({"negative_proposal": "zipf"}, "negative_proposal must be one of"),
        ({"num_negatives": 0}, "num_negatives must be at least 1"),
        ({"loss_chunk": 0}, "loss_chunk must be at least 1"),
        ({"gbce_calibration": 1.5}, "gbce_calibration must be in"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        CatalogueLoss(**change)
