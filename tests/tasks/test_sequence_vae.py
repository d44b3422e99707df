import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.expansion.generate.item_by_item import draw_items
from recjax.losses import CatalogueLoss
from recjax.tasks import SequenceVae

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]


@pytest.fixture
def vae(encoder_config, init):
    task = SequenceVae(encoder_config, item_loss=CatalogueLoss(loss_chunk=8), latent_dim=3)
    return task, init(task)


def _loss(task, params, batch, constants, keys=None):
    run = jax.jit(lambda p, b: task.loss(p, b, constants, keys=keys, train=keys is not None))
    return run(params, batch)


def _alone(batch, row, segment):
    """One user of a packed batch in a row of its own."""
    at = np.flatnonzero(batch["segments"][row] == segment)
    moved = {name: jnp.zeros_like(value[:1]) for name, value in batch.items()}
    return {
        name: value.at[0, : len(at)].set(1 if name == "segments" else batch[name][row, at])
        for name, value in moved.items()
    }


def test_loss_of_packed_users_is_that_of_each_alone(vae, make_batch, constants):
    (task, params), batch = vae, make_batch(LENGTHS)
    packed = _loss(task, params, batch, constants)
    users = [(row, at + 1) for row, users in enumerate(LENGTHS) for at in range(len(users))]
    rows = [_alone(batch, *user) for user in users]
    alone = jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows)
    for name, found in _loss(task, params, alone, constants).items():
        np.testing.assert_allclose(found, packed[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow  # compiles
def test_every_event_is_asked_and_the_divergence_is_that_of_normals(vae, make_batch, constants):
    (task, params), batch = vae, make_batch([[4]])

    @jax.jit
    def parts(params):
        mean, log_variance = task.posterior(params, batch, constants)
        hidden = task.decode(params, batch, constants, mean)
        return mean, log_variance, hidden

    mean, log_variance, hidden = parts(params)
    np.testing.assert_array_equal(mean[0, 0], mean[0, 3])
    table, bias = task.item_table(params)
    logits = hidden[0, :4] @ table[5:].T + bias[None, 5:]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["items"][0, :4] - 5)
    weights = batch["weights"][0, :4]
    losses = _loss(task, params, batch, constants)
    np.testing.assert_allclose(losses["sequence_vae"], [nats @ weights, weights.sum()], rtol=1e-5)
    m, v = np.asarray(mean[0, 0]), np.exp(np.asarray(log_variance[0, 0]))
    nats = 0.5 * np.sum(v + m**2 - 1 - np.log(v))
    expected = [task.kl_weight * weights[0] * nats, weights.sum()]
    np.testing.assert_allclose(losses["divergence"], expected, rtol=1e-5)


def test_decoder_sees_the_latent_vector_and_earlier_events_only(vae, make_batch, constants):
    (task, params), batch = vae, make_batch([[6, 6]])
    latent = jnp.ones((1, 12, 3))
    decode = jax.jit(lambda batch, latent: task.decode(params, batch, constants, latent))
    plain = decode(batch, latent)
    changed = decode(batch | {"items": batch["items"].at[0, 3].set(7)}, latent)
    moved = np.abs(changed - plain)[0].max(axis=1) > 1e-5
    assert moved.tolist() == [False] * 4 + [True, True] + [False] * 6
    assert (np.abs(decode(batch, -latent) - plain)[0].max(axis=1) > 1e-5).all()


def test_query_is_what_decoding_has_at_the_next_place(vae, make_batch, constants):
    (task, params), batch = vae, make_batch([[7], [7], [12]])
    latent = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    histories = batch | {"lengths": jnp.array([6, 0, 12]), "latent": latent}
    histories["segments"] = (jnp.arange(12)[None] < histories["lengths"][:, None]).astype(int)

    @jax.jit
    def both(histories):
        spread = jnp.broadcast_to(latent[:, None], (3, 12, 3))
        hidden = task.decode(params, batch, constants, spread)
        return task.queries(params, histories, constants), hidden

    queries, hidden = both(histories)
    np.testing.assert_allclose(queries[:2], jnp.stack([hidden[0, 6], hidden[1, 0]]), atol=1e-5)
    assert np.isfinite(queries).all()
    del histories["latent"]
    judged = jax.jit(lambda batch: task.queries(params, batch, constants))(histories)
    assert np.abs(judged - queries)[0].max() > 1e-4


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("change", [{"kl_weight": 1.0}, {"history_drop": 0.9}])
def test_settings_change_the_loss(change, vae, make_batch, constants):
    (task, params), batch = vae, make_batch(LENGTHS)
    keys = jax.random.split(jax.random.key(0), 3)
    plain = _loss(task, params, batch, constants, keys)
    other = _loss(dataclasses.replace(task, **change), params, batch, constants, keys)
    name = "divergence" if "kl_weight" in change else "sequence_vae"
    assert abs(plain[name][0] - other[name][0]) > 1e-3


@pytest.mark.slow  # compiles
def test_gradients_reach_every_parameter(vae, make_batch, constants):
    (task, params), batch = vae, make_batch(LENGTHS)
    keys = jax.random.split(jax.random.key(1), 3)

    def total(params):
        losses = task.loss(params, batch, constants, keys=keys, train=True)
        return sum(loss for loss, _ in losses.values())

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(params)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1"),
        ({"kl_weight": 0.0}, "kl_weight must be above 0"),
        ({"history_drop": 1.0}, "history_drop must be from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_named(change, message, encoder_config):
    with pytest.raises(ValueError, match=message):
        SequenceVae(encoder_config, **change)


@pytest.mark.slow  # 300 steps
def test_draws_from_the_prior_are_of_the_kinds_that_there_are(encoder_config, constants, init):
    """Users hold odd items only, or even ones: one vector decides for a whole user."""
    config = dataclasses.replace(encoder_config, dropout_rate=0.0, inputs=("item",))
    task = SequenceVae(config, item_loss=CatalogueLoss(loss_chunk=32), latent_dim=2)
    rng = np.random.default_rng(0)
    ids = np.zeros((64, 8), np.int32)
    batch = {"actions": ids, "gaps": ids, "segments": ids + 1, "positions": ids + np.arange(8)}
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    batch["weights"] = jnp.ones((64, 8))
    params, optimizer = init(task), optax.adam(1e-2)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, items, key):
        def mean(params):
            losses = task.loss(
                params, batch | {"items": items}, constants, keys=jax.random.split(key, 64),
                train=True,
            )  # fmt: skip
            return sum(total / weight for total, weight in losses.values())

        updates, state = optimizer.update(jax.grad(mean)(params), state, params)
        return optax.apply_updates(params, updates), state

    for key in jax.random.split(jax.random.key(1), 300):
        kinds = rng.integers(0, 2, (64, 1))
        items = jnp.asarray(5 + kinds + 2 * rng.integers(0, 12, (64, 8)), jnp.int32)
        params, state = step(params, state, items, key)

    def score(params, batch):
        table, bias = task.item_table(params)
        return task.queries(params, batch, constants) @ table.T + bias[None]

    nothing = jnp.zeros((256, 8), jnp.int32)
    draw = functools.partial(draw_items, score=score, top_k=0, latent_dim=2)
    items = draw(
        jax.random.split(jax.random.key(2), 256), params, None, nothing, nothing,
        jnp.arange(30) >= 5, 1.0,
    )  # fmt: skip
    kinds = (np.asarray(items) - 5) % 2
    purity = np.maximum(kinds.mean(axis=1), 1 - kinds.mean(axis=1))
    assert purity.mean() > 0.95 and 0.2 < kinds[:, 0].mean() < 0.8
