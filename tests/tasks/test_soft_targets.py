"""Targets softened by a generator: the loss is the cross-entropy against its distribution."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import hmm
from recjax.expansion import Teacher
from recjax.losses import CatalogueLoss
from recjax.tasks import NextItem

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]
NUM_STATES, KNOWN = 3, np.arange(5, 28, dtype=np.int32)  # items 28 and 29 it never saw


@pytest.fixture(scope="module")
def teacher():
    rng = np.random.default_rng(0)

    def rows(*shape):
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)

    users = hmm.Events(
        *(rng.integers(0, 23, (40, 6)).astype(np.int32) for _ in range(3)), np.full(40, 6, np.int32)
    )
    settings = hmm.HmmSettings(3, 1, 0.0, 2, 4, 0.5, 0.5, 0.1)
    params = hmm.HmmParams(
        start=rows(1, NUM_STATES),
        transition=rows(NUM_STATES, NUM_STATES),
        stop=np.full(NUM_STATES, 0.2, np.float32),
        action=rows(NUM_STATES, 4),
        gap=rows(NUM_STATES, 6),
        mix=np.full(NUM_STATES, 0.4, np.float32),
        items=hmm.PlainItems(np.ascontiguousarray(rows(NUM_STATES, len(KNOWN)).T)),
        kernel=hmm.build_kernel([users], len(KNOWN), settings),
    )
    index = np.full(30, -1, np.int32)
    index[KNOWN] = np.arange(len(KNOWN))
    return jax.tree.map(jnp.asarray, Teacher(params, KNOWN, index))


def dense_loss(task, params, batch, constants, teacher):
    """The weighted cross-entropy against teacher probabilities [B, T, V], and the weights' sum."""
    hidden = task.encode(params, batch, constants, causal=True)
    table, bias = task.item_table(params)
    one_row_each = jnp.eye(len(table))[teacher.item_ids]
    wanted = teacher.expected_rows(batch, one_row_each)[:, :, 5:]
    losses = optax.softmax_cross_entropy(hidden @ table[5:].T + bias[None, None, 5:], wanted)
    _, _, _, weights = task.ask(batch)
    return (losses * weights).sum(), weights.sum()


def test_loss_is_the_cross_entropy_against_the_mixed_target(
    encoder_config, make_batch, constants, init, teacher
):
    hard = NextItem(encoder_config, item_loss=CatalogueLoss(loss_chunk=7))
    soft = dataclasses.replace(hard, soft_targets=0.3)
    batch, params = make_batch(LENGTHS), init(hard)

    @jax.jit
    def losses(params):
        told = constants | {"teacher": teacher}
        softened, hardened = (
            task.loss(params, batch, told, keys=None, train=False) for task in (soft, hard)
        )
        return softened, hardened, dense_loss(hard, params, batch, constants, teacher)

    softened, hardened, (total, weight) = losses(params)
    (found, found_weight), (target, _) = softened["next_item"], hardened["next_item"]
    np.testing.assert_allclose(found, 0.3 * total + 0.7 * target, rtol=1e-5)
    np.testing.assert_allclose(found_weight, weight, rtol=1e-6)


@pytest.mark.slow
def test_sampled_loss_replaces_the_target_logit_alone(
    encoder_config, make_batch, constants, init, teacher
):
    """Only the normaliser is sampled, so full and sampled change by the same amount."""
    changes = []
    for loss in ("full", "sampled"):
        hard = NextItem(encoder_config, item_loss=CatalogueLoss(loss=loss, num_negatives=8))
        soft = dataclasses.replace(hard, soft_targets=0.5)
        batch, params = make_batch(LENGTHS), init(hard)

        @jax.jit
        def losses(params, soft=soft, hard=hard, batch=batch):
            told = constants | {"teacher": teacher}
            return [task.loss(params, batch, told, keys=None, train=False) for task in (soft, hard)]

        both = losses(params)
        changes.append(both[0]["next_item"][0] - both[1]["next_item"][0])
    np.testing.assert_allclose(*changes, rtol=1e-4)


@pytest.mark.slow
def test_gradient_pulls_the_model_to_the_teacher(
    encoder_config, make_batch, constants, init, teacher
):
    task = NextItem(encoder_config, soft_targets=1.0)
    batch, params = make_batch(LENGTHS), init(task)
    told = constants | {"teacher": teacher}

    @jax.jit
    def loss(params):
        return task.loss(params, batch, told, keys=None, train=False)["next_item"][0]

    start, gradient = loss(params), jax.jit(jax.grad(loss))
    for _ in range(20):
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient(params))
    assert loss(params) < start - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"soft_targets": 1.5}, "soft_targets must be from 0 to 1, got 1.5"),
        ({"soft_targets": 0.5, "causal": False}, "soft_targets needs causal reading"),
        ({"soft_targets": 0.5, "item_loss": CatalogueLoss(loss="gbce")}, "'full' or 'sampled'"),
    ],
)
def test_impossible_soft_targets_are_refused(encoder_config, changes, message):
    with pytest.raises(ValueError, match=message):
        NextItem(encoder_config, **changes)
