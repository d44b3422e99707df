import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from tiny_training import OPTIMIZER, one_device, train_steps

from recjax.gradients import compute_gradients, sum_over_parts, without_conflicts
from recjax.parallel import make_engine

ROWS, DIM = 12, 64


def losses(params, batch):
    """Two losses with weights of their own."""
    hidden = jnp.tanh(batch["x"] @ params["kernel"])
    return {
        "square": (jnp.sum(batch["a"] * jnp.sum(hidden**2, axis=1)), jnp.sum(batch["a"])),
        "line": (jnp.sum(batch["b"] * hidden[:, 0]), jnp.sum(batch["b"])),
    }


def problem():
    rng = np.random.default_rng(0)
    shapes = {"x": (ROWS, DIM), "a": (ROWS,), "b": (ROWS,)}
    batch = {n: jnp.asarray(rng.uniform(size=s), jnp.float32) for n, s in shapes.items()}
    batch["b"] = batch["b"].at[:9].set(0.0)  # a part may have no weight of a loss at all
    return {"kernel": jnp.asarray(rng.normal(size=(DIM, DIM)), jnp.float32) / DIM}, batch


def compiled(parts):
    return jax.jit(lambda p, b: compute_gradients(losses, p, b, parts=parts)).lower(*problem())


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_give_the_gradient_of_the_whole_batch(parts):
    grads, means = compiled(1).compile()(*problem())
    part_grads, part_means = compiled(parts).compile()(*problem())
    np.testing.assert_allclose(part_grads["kernel"], grads["kernel"], rtol=1e-5, atol=1e-6)
    for name, value in means.items():
        np.testing.assert_allclose(part_means[name], value, rtol=1e-6)
        total, weight = losses(*problem())[name]
        np.testing.assert_allclose(value, total / weight, rtol=1e-5)


def test_every_row_is_in_one_part():
    batch = {"x": jnp.arange(ROWS)}
    together = sum_over_parts(lambda part: jnp.bincount(part["x"], length=ROWS), batch, 4)
    np.testing.assert_array_equal(together, 1)


def test_rows_that_are_cut_over_devices_do_not_move():
    mesh = make_engine("jit", {"data": -1}).mesh
    params, batch = problem()
    batch = jax.tree.map(lambda leaf: jnp.tile(leaf, (4,) + (1,) * (leaf.ndim - 1)), batch)
    run = jax.jit(
        lambda params, batch: compute_gradients(losses, params, batch, parts=2),
        in_shardings=(NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))),
    )
    text = run.lower(params, batch).compile().as_text()
    assert "all-reduce" in text
    assert not re.search("all-to-all|all-gather|collective-permute", text)


def test_weights_of_all_parts_cost_no_forward_pass():
    whole, parts = (compiled(n).compile().cost_analysis()["flops"] for n in (1, 2))
    assert parts < 0.6 * whole  # a loop's body counts once; with a forward pass more: 0.75


@pytest.mark.slow
def test_accumulated_updates_equal_whole_ones_on_any_mesh():
    optimizer = replace(OPTIMIZER, optimizer="sgd", learning_rate=0.1)  # Adam blows up rounding
    losses, state = train_steps(one_device(), "masked_item", 3, optimizer)
    for engine in (one_device(), make_engine("jit", {"data": 2, "fsdp": 2, "tensor": 2})):
        parts_losses, parts_state = train_steps(
            engine, "masked_item", 3, optimizer, accumulate_steps=2
        )
        np.testing.assert_allclose(parts_losses, losses, rtol=1e-5, atol=1e-6)
        pairs = zip(jax.tree.leaves(parts_state.params), jax.tree.leaves(state.params), strict=True)
        for part, leaf in pairs:
            np.testing.assert_allclose(part, leaf, rtol=1e-5, atol=1e-6)


def test_rows_that_do_not_divide_into_parts_are_refused_with_a_size_that_does():
    engine = make_engine("jit", {"data": -1})
    with pytest.raises(ValueError, match="24 .* 8 devices .* x accumulate_steps = 2; 32 does"):
        engine.check_rows(24, 2)
    with pytest.raises(ValueError, match="accumulate_steps must be at least 1, got 0"):
        engine.check_rows(24, 0)
    engine.check_rows(32, 2)


def test_gradients_lose_what_works_against_another():
    one, two, three = jnp.array([1.0, 0.0]), jnp.array([-1.0, 1.0]), jnp.array([0.0, 2.0])
    pair = without_conflicts({"a": jnp.stack([one, two])})["a"]
    np.testing.assert_allclose(pair, jnp.array([0.5, 0.5]) + jnp.array([0.0, 1.0]), rtol=1e-6)
    agreeing = without_conflicts(
        {"a": jnp.stack([one, three])[:, :1], "b": jnp.stack([one, three])}
    )
    np.testing.assert_allclose(agreeing["b"], one + three)
    np.testing.assert_allclose(agreeing["a"], [1.0])
    several = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    expected = np.zeros(6)
    for own, kept in enumerate(several):
        for other, gradient in enumerate(several):
            if other != own and kept @ gradient < 0:
                kept = kept - (kept @ gradient) / (gradient @ gradient) * gradient
        expected += kept
    found = without_conflicts({"a": several[:, :2], "b": several[:, 2:].reshape(4, 2, 2)})
    together = np.concatenate([found["a"], found["b"].ravel()])
    np.testing.assert_allclose(together, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(together, several.sum(0), rtol=1e-2)


def test_surgery_works_on_gradients_of_whole_batches():
    params, batch = problem()
    each = [
        jax.grad(lambda p, n=name: losses(p, batch)[n][0] / losses(p, batch)[n][1])(params)
        for name in ("line", "square")
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    expected = without_conflicts(stacked)["kernel"]
    for parts in (1, 3):
        found, _ = compute_gradients(losses, params, batch, parts=parts, surgery=True)
        np.testing.assert_allclose(found["kernel"], expected, rtol=1e-4, atol=1e-6)
    plain, _ = compute_gradients(losses, params, batch)
    assert not np.allclose(plain["kernel"], expected, rtol=1e-3)
