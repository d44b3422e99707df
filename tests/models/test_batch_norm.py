import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.gradients import compute_gradients
from recjax.models.batch_norm import COLLECTION, BatchNorm
from recjax.optim import OptimizerConfig, make_optimizer

NORM = BatchNorm(jnp.float32)
X = 3 + 2 * jax.random.normal(jax.random.key(0), (64, 5))
PARAMS = NORM.init(jax.random.key(1), X, False)["params"]
SETTINGS = OptimizerConfig(
    optimizer="adam",
    learning_rate=0.1,
    schedule="constant",
    warmup_steps=0,
    num_steps=10,
    weight_decay=0.0,
    clip_norm=1e-3,  # far below the statistics' gradient, which is not clipped
    beta2=0.999,
)


def losses(params, x):
    out, sown = NORM.apply({"params": params}, x, True, mutable=[COLLECTION])
    size = jnp.float32(len(x))
    return {
        "fit": ((out[:, 0] ** 3).sum(), size),
        COLLECTION: (jnp.stack(jax.tree.leaves(sown)).sum() * size, size),
    }


def test_training_norms_by_the_batch_and_judging_by_running_statistics():
    out, _ = NORM.apply({"params": PARAMS}, X, True, mutable=[COLLECTION])
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(NORM.apply({"params": PARAMS}, X, False), X, rtol=1e-4)
    known = PARAMS | {"running_mean": X.mean(axis=0), "running_variance": X.var(axis=0)}
    np.testing.assert_allclose(NORM.apply({"params": known}, X, False), out, atol=1e-5)


def test_a_step_moves_statistics_a_tenth_of_the_way():
    optimizer = make_optimizer(SETTINGS)
    grads, means = compute_gradients(losses, PARAMS, X)
    assert float(means[COLLECTION]) == 0
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    moved = optax.apply_updates(PARAMS, updates)
    np.testing.assert_allclose(moved["running_mean"], 0.1 * X.mean(axis=0), rtol=1e-5)
    unbiased = X.var(axis=0, ddof=1)
    np.testing.assert_allclose(moved["running_variance"], 0.9 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_give_the_mean_of_their_statistics(parts):
    grads, _ = compute_gradients(losses, PARAMS, X, parts=parts)
    np.testing.assert_allclose(grads["running_mean"], -X.mean(axis=0), rtol=1e-5)
