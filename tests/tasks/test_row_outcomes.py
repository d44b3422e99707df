import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.losses import sigmoid_cross_entropy
from recjax.models.ctr import CtrConfig
from recjax.tasks import RowOutcomes

IDS = jnp.array([[i, 4 + j] for i in range(4) for j in range(4)], jnp.int32)
FIRST = ((IDS[:, 0] + IDS[:, 1]) % 2 == 0).astype(jnp.float32)
BATCH = {
    "ids": IDS,
    "label": jnp.stack([FIRST, FIRST * (IDS[:, 0] > 1)], axis=1),
    "weight": jnp.arange(16.0),
}


def task_of(head="shared_bottom", weights=(1.0, 1.0), **settings):
    sizes = {"hidden_dims": (16,), "tower_dims": (8,), "embedding_dim": 4, "num_experts": 2}
    model = CtrConfig(head=head, num_rows=8, slots=(1, 1), num_outcomes=2, **sizes)
    return RowOutcomes(model, outcomes=("cart", "buy"), weights=weights, **settings)


def losses(task, params, train=True):
    return task.loss(params, BATCH, {}, keys=None, train=train)


def test_loss_of_each_outcome_is_its_cross_entropy_times_its_weight():
    task = task_of(weights=(1.0, 0.5))
    params = task.init(jax.random.key(0))
    found, scores = losses(task, params), task.scores(params, BATCH, {})
    assert scores.shape == (16, 2) and set(found) == {"row_outcomes_cart", "row_outcomes_buy"}
    for k, (name, weight) in enumerate((("cart", 1.0), ("buy", 0.5))):
        total, rows = sigmoid_cross_entropy(scores[:, k], BATCH["label"][:, k], BATCH["weight"])
        np.testing.assert_allclose(found[f"row_outcomes_{name}"], (weight * total, rows), rtol=1e-6)


def test_outcome_of_weight_zero_is_not_learned():
    task = task_of(weights=(0.0, 1.0))
    params = task.init(jax.random.key(0))
    assert task.learned == (1,) and set(losses(task, params)) == {"row_outcomes_buy"}
    grads = jax.grad(lambda p: losses(task, p)["row_outcomes_buy"][0])(params)["head"]["head"]
    assert np.any(grads["outcome_1"]["dense_0"]["kernel"])
    assert not np.any(grads["outcome_0"]["dense_0"]["kernel"])


def test_learned_weights_go_to_the_inverse_of_the_losses():
    task = task_of(balance="uncertainty")
    params = task.init(jax.random.key(0))
    plain = task_of()
    same = losses(plain, {"head": params["head"]})
    for name, (total, _) in losses(task, params).items():
        np.testing.assert_allclose(
            total, same[name][0], rtol=1e-6
        )  # s = 0: weight 1, nothing added

    def total(balance):
        found = losses(task, params | {"balance": balance})
        return sum(value / weight for value, weight in found.values())

    step = jax.jit(lambda balance: balance - 0.2 * jax.grad(total)(balance))
    balance = params["balance"]
    for _ in range(200):
        balance = step(balance)
    means = [value / weight for value, weight in same.values()]
    np.testing.assert_allclose(jnp.exp(-balance), [1 / (2 * mean) for mean in means], rtol=1e-3)


def test_order_of_outcomes_costs_where_a_later_one_is_likelier():
    task = task_of("aitm", order_weight=0.5)
    params = task.init(jax.random.key(3))
    found = losses(task, params)["row_outcomes_order"]
    chances = jax.nn.sigmoid(task.scores(params, BATCH, {}))
    beyond = np.maximum(chances[:, 1] - chances[:, 0], 0)
    np.testing.assert_allclose(found[0], 0.5 * (beyond * BATCH["weight"]).sum(), rtol=1e-5)
    assert float(found[0]) > 0 and float(found[1]) == BATCH["weight"].sum()
    for other in (task_of("aitm", order_weight=0.0), task_of("mmoe"), task_of("aitm", (1.0, 0.0))):
        names = jax.eval_shape(lambda other=other: losses(other, other.init(jax.random.key(0))))
        assert "row_outcomes_order" not in names


@pytest.mark.parametrize("head", ["shared_bottom", pytest.param("ple", marks=pytest.mark.slow)])
def test_both_outcomes_are_learned(head):
    task, optimizer = task_of(head), optax.adam(0.02)
    params = task.init(jax.random.key(0))
    table = params["head"]["embedding"]["rows"]
    table["table"] = 50 * table["table"]

    def mean(params):
        return sum(total / weight for total, weight in losses(task, params).values())

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(mean)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), loss

    curve = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, length=200)[1])(
        params
    )
    assert curve[-1] < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": "gradnorm"}, "balance = 'gradnorm'; known: fixed, uncertainty"),
        ({"weights": (1.0,)}, "give one of each"),
        ({"weights": (0.0, 0.0)}, "none below 0, and one above"),
    ],
)
def test_setting_that_cannot_be_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        task_of(**settings)
