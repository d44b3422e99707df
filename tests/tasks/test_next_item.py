import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.losses import CatalogueLoss
from recjax.tasks import NextItem

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]


def _history(make_batch, lengths):
    batch = make_batch([[n] if n else [] for n in lengths])
    return batch | {"lengths": jnp.asarray(lengths)}


def _loss_and_hidden(task, params, batch, constants):
    @jax.jit
    def run(params, batch):
        loss = task.loss(params, batch, constants, keys=None, train=False)["next_item"]
        return loss, task.encode(params, batch, constants, causal=True)

    return run(params, batch)


def _dense(task, params, hidden, targets):
    table, bias = task.item_table(params)
    logits = hidden @ table[5:].T + bias[None, 5:]
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(targets) - 5)


def test_causal_targets_are_the_next_events_of_the_segment(
    encoder_config, make_batch, constants, init
):
    task, batch = (
        NextItem(encoder_config, item_loss=CatalogueLoss(loss_chunk=7)),
        make_batch(LENGTHS),
    )
    batch["items"] = batch["items"].at[1, 3].set(1)  # [UNK] is input, never a target
    params = init(task)
    (total, weight), hidden = _loss_and_hidden(task, params, batch, constants)
    pairs = [
        (row, at)
        for row, users in enumerate(LENGTHS)
        for at in range(sum(users) - 1)
        if batch["segments"][row, at] == batch["segments"][row, at + 1]
        and batch["items"][row, at + 1] != 1
    ]
    rows, at = np.array(pairs).T
    assert len(pairs) == 4 + 3 + 2 + 10 + 1
    losses = _dense(task, params, hidden[rows, at], batch["items"][rows, at + 1])
    weights = batch["weights"][rows, at + 1]
    np.testing.assert_allclose(total, (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)


def test_bidirectional_training_asks_what_evaluation_asks(
    encoder_config, make_batch, constants, init
):
    """The hidden last event of a segment is the query of the history before it."""
    task, batch = (
        NextItem(encoder_config, causal=False, item_loss=CatalogueLoss(loss_chunk=7)),
        make_batch(LENGTHS),
    )
    params = init(task)
    (total, weight), _ = _loss_and_hidden(task, params, batch, constants)
    histories, targets, weights = [], [], []
    for row, users in enumerate(LENGTHS):
        for start, count in zip(np.cumsum([0, *users]), users, strict=False):
            if count < 2:
                continue
            part = {
                name: jnp.pad(value[row, start : start + count - 1], (0, 13 - count))
                for name, value in batch.items()
            }
            histories.append(part | {"lengths": jnp.asarray(count - 1)})
            targets.append(batch["items"][row, start + count - 1])
            weights.append(batch["weights"][row, start + count - 1])
    queries = jax.jit(task.queries)(
        params, jax.tree.map(lambda *rows: jnp.stack(rows), *histories), constants
    )
    weights = jnp.stack(weights)
    losses = _dense(task, params, queries, targets)
    np.testing.assert_allclose(total, (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)


def test_causal_queries_are_the_last_hidden_states(encoder_config, make_batch, constants, init):
    task, batch = NextItem(encoder_config), _history(make_batch, [3, 12, 0, 1])
    params = init(task)
    queries = jax.jit(task.queries)(params, batch, constants)
    _, hidden = _loss_and_hidden(task, params, batch, constants)
    expected = jnp.stack([hidden[0, 2], hidden[1, 11], jnp.zeros(16), hidden[3, 0]])
    np.testing.assert_allclose(queries, expected, atol=1e-6)


def test_a_full_history_gives_way_to_the_query(encoder_config, make_batch, constants, init):
    task, batch = NextItem(encoder_config, causal=False), _history(make_batch, [12, 11, 0])
    batch["items"] = batch["items"].at[1, :11].set(batch["items"][0, 1:])
    for name in ("actions", "gaps"):
        batch[name] = batch[name].at[1, :11].set(batch[name][0, 1:])
    params = init(task)
    queries = jax.jit(task.queries)(params, batch, constants)
    np.testing.assert_allclose(queries[0], queries[1], atol=1e-6)
    assert np.abs(queries[0]).max() > 0.1 and np.abs(queries[2]).max() == 0


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_are_finite_and_reach_every_parameter(
    encoder_config, make_batch, constants, init, causal
):
    task, batch = (
        NextItem(encoder_config, causal=causal, item_loss=CatalogueLoss(loss_chunk=8)),
        make_batch(LENGTHS),
    )
    params, keys = init(task), jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def gradients(batch):
        def total(params):
            return task.loss(params, batch, constants, keys=keys, train=True)["next_item"][0]

        return jax.grad(total)(params)

    for leaf in jax.tree.leaves(gradients(batch)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
    empty = jax.tree.map(jnp.zeros_like, batch)
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradients(empty)))


def test_dropout_needs_train_and_keys(encoder_config, make_batch, constants, init):
    task, batch = NextItem(encoder_config), make_batch(LENGTHS)
    params, keys = init(task), jax.random.split(jax.random.key(1), 3)
    loss = jax.jit(
        lambda keys, train: task.loss(params, batch, constants, keys=keys, train=train)[task.name],
        static_argnums=1,
    )
    plain = loss(None, False)[0]
    assert float(loss(keys, False)[0]) == float(plain) == float(loss(None, True)[0])
    assert float(loss(keys, True)[0]) != float(plain)


def test_a_few_steps_learn_a_fixed_order(encoder_config, constants, init):
    """Item i is followed by i + 1: the loss falls far below that of a guess."""
    task = NextItem(encoder_config, item_loss=CatalogueLoss(loss_chunk=32))
    starts = jnp.arange(16)[:, None]
    items = (starts + jnp.arange(8)[None]) % 25 + 5
    ids = jnp.zeros_like(items)
    batch = {"items": items, "actions": ids, "gaps": ids, "segments": ids + 1}
    batch |= {"positions": ids + jnp.arange(8)[None], "weights": jnp.ones(items.shape)}
    params, optimizer = init(task), optax.adam(1e-2)
    state = optimizer.init(params)

    def mean(params, keys):
        total, weight = task.loss(params, batch, constants, keys=keys, train=True)["next_item"]
        return total / weight

    @jax.jit
    def step(params, state, key):
        loss, gradient = jax.value_and_grad(mean)(params, jax.random.split(key, 16))
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    for key in jax.random.split(jax.random.key(1), 60):
        params, state, loss = step(params, state, key)
    assert loss < 0.5 < np.log(25) / 4
