import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.expansion.on_device import Adversary
from recjax.losses import sigmoid_cross_entropy
from recjax.models.ctr import CtrConfig
from recjax.tasks import RowClick

IDS = jnp.array([[i, 4 + j] for i in range(4) for j in range(4)], jnp.int32)
BATCH = {  # like and like go together: no sum of weights says that
    "ids": IDS,
    "label": ((IDS[:, 0] + IDS[:, 1]) % 2 == 0).astype(jnp.float32),
    "weight": jnp.ones(16),
}
KEYS = jax.random.split(jax.random.key(1), 16)


def task_of(head, **changes):
    settings = {"hidden_dims": (8,), "embedding_dim": 4} | changes
    return RowClick(CtrConfig(head=head, num_rows=8, slots=(1, 1), **settings))


def test_loss_is_the_weighted_cross_entropy_of_the_scores():
    task = task_of("dnn")
    params = task.init(jax.random.key(0))
    batch = BATCH | {"weight": jnp.arange(16.0)}
    loss = task.loss(params, batch, {}, keys=None, train=False)
    scores = task.scores(params, batch, {})
    expected = sigmoid_cross_entropy(scores, batch["label"], batch["weight"])
    np.testing.assert_allclose(loss["row_click"], expected, rtol=1e-6)
    assert set(loss) == {"row_click"}


def test_streams_learn_from_their_mean_which_learns_from_labels():
    task = task_of("finalnet")
    params = task.init(jax.random.key(0))
    loss = task.loss(params, BATCH, {}, keys=None, train=False)
    assert set(loss) == {"row_click", "stream_0", "stream_1"}
    own = [float(loss[f"stream_{n}"][0]) for n in (0, 1)]
    mean = jax.nn.sigmoid(task.scores(params, BATCH, {}))
    entropy = sigmoid_cross_entropy(jnp.log(mean / (1 - mean)), mean, BATCH["weight"])[0]
    assert min(own) >= float(entropy) - 1e-4 and own[0] != own[1]


def test_batch_norm_gives_a_loss_of_zero_in_training_only():
    task = task_of("dnn", norm="batch")
    params = task.init(jax.random.key(0))
    train = task.loss(params, BATCH, {}, keys=KEYS, train=True)
    assert float(train["statistics"][0]) == 0
    assert "statistics" not in task.loss(params, BATCH, {}, keys=KEYS, train=False)
    grads = jax.grad(lambda p: task.loss(p, BATCH, {}, keys=KEYS, train=True)["statistics"][0])
    moved = grads(params)["head"]["head"]["deep"]["norm_0"]
    assert np.any(moved["running_mean"]) and not np.any(moved["scale"])


@pytest.mark.parametrize("method", ["fgm", "pgd"])
def test_adversary_adds_a_higher_loss_in_training_only(method):
    plain, task = task_of("dnn"), RowClick(task_of("dnn").model, Adversary(method, size=0.5))
    params = jax.tree.map(lambda leaf: 20 * leaf, plain.init(jax.random.key(0)))
    loss = jax.jit(lambda p: task.loss(p, BATCH, {}, keys=KEYS, train=True))(params)
    assert set(loss) == {"row_click", "row_click_adversarial"}
    assert loss["row_click_adversarial"][0] > loss["row_click"][0]
    assert set(task.loss(params, BATCH, {}, keys=KEYS, train=False)) == {"row_click"}
    none = RowClick(plain.model, Adversary(method, size=0.0))
    same = none.loss(params, BATCH, {}, keys=KEYS, train=True)
    np.testing.assert_allclose(same["row_click_adversarial"], same["row_click"], rtol=1e-5)


@pytest.mark.parametrize(("head", "learns"), [("lr", False), ("fm", True)])
def test_pairs_are_learned_by_heads_that_know_pairs(head, learns):
    task, optimizer = task_of(head), optax.adam(0.1)
    params = task.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 30 * leaf, params)

    def mean(params):
        return task.loss(params, BATCH, {}, keys=None, train=True)["row_click"][0] / 16

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(mean)(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    state = optimizer.init(params)
    losses = jax.jit(lambda p, s: jax.lax.scan(step, (p, s), None, length=200)[1])(params, state)
    assert (losses[-1] < 0.05) == learns and losses[-1] < 0.75
