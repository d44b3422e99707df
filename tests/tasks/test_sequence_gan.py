import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.losses import CatalogueLoss
from recjax.tasks import SequenceGan
from recjax.tasks.positions import is_first

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]
KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.fixture
def gan(encoder_config):
    task = SequenceGan(encoder_config, item_loss=CatalogueLoss(loss_chunk=8))
    return task, jax.jit(task.init)(jax.random.key(0))


def _play(task, params, batch, keys=KEYS):
    @jax.jit
    def run(params):
        table = params["critic"]["reader"]["table"]
        return task.play(params, batch["items"], is_first(batch["segments"]), keys, table)

    return run(params)


def _gradients(task, params, batch, name):
    def total(params):
        return task.loss(params, batch, {}, keys=KEYS, train=True)[name][0]

    return jax.jit(jax.grad(total))(params)


def test_played_users_begin_as_real_ones_and_hold_items_only(gan, make_batch):
    (task, params), batch = gan, make_batch(LENGTHS)
    items, seen = _play(task, params, batch)
    positions, real = np.asarray(batch["positions"]), np.asarray(batch["segments"] > 0)
    first = real & (positions == 0)
    np.testing.assert_array_equal(items[first], batch["items"][first])
    assert (items[~first & real] >= 5).all() and (items < 30).all()
    assert (items != batch["items"])[real & ~first].mean() > 0.5
    table = params["critic"]["reader"]["table"]
    np.testing.assert_allclose(seen[real], table[items[real]], atol=1e-6)


@pytest.mark.slow  # compiles
def test_a_played_row_depends_on_its_key_and_is_drawn_by_the_odds(gan, make_batch):
    (task, params), batch = gan, make_batch([[12]] * 3)
    items, _ = _play(task, params, batch)
    again, _ = _play(task, params, jax.tree.map(lambda x: x[1:2], batch), KEYS[1:2])
    np.testing.assert_array_equal(again[0], items[1])
    many = jax.tree.map(lambda x: jnp.repeat(x[:1, :2], 4000, axis=0), batch)
    drawn, _ = _play(task, params, many, jax.random.split(jax.random.key(1), 4000))
    history = jax.tree.map(lambda x: x[:1], batch) | {"lengths": jnp.array([1])}
    history["segments"] = (jnp.arange(12) < 1)[None].astype(int)
    table, bias = task.item_table(params)
    odds = jax.nn.softmax(task.queries(params, history, {}) @ table.T + bias[None])[0]
    expected = 4000 * np.asarray(odds)[5:]
    counts = np.bincount(drawn[:, 1], minlength=30)[5:]
    assert (np.square(counts - expected) / expected).sum() < 25 + 5 * np.sqrt(50)


def test_each_player_learns_from_its_own_loss(gan, make_batch):
    (task, params), batch = gan, make_batch(LENGTHS)
    own = {"critic": "critic", "generator": "generator", "next_item": "generator"}
    for name, player in own.items():
        grads = _gradients(task, params, batch, name)
        for part in ("generator", "critic", "head"):
            moved = [np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads[part])]
            learns = part == player or (part == "head" and player == "generator")
            assert all(moved) if learns else not any(moved), (name, part)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow  # compiles
def test_losses_are_those_of_the_game(gan, make_batch, monkeypatch):
    """With a critic that always answers 1.5, and weights that count events after the first."""
    (task, params), batch = gan, make_batch(LENGTHS)
    monkeypatch.setattr(SequenceGan, "_judge", lambda self, critic, x, starts: 0 * x[..., 0] + 1.5)
    losses = task.loss(params, batch, {}, keys=KEYS, train=True)
    later = np.where((batch["segments"] > 0) & (batch["positions"] > 0), batch["weights"], 0).sum()
    nats = np.log1p(np.exp(-1.5))
    np.testing.assert_allclose(losses["generator"], [0.1 * nats * later, later], rtol=1e-5)
    told = nats + np.log1p(np.exp(1.5))
    np.testing.assert_allclose(losses["critic"], [told * later, later], rtol=1e-5)


@pytest.mark.slow  # compiles
def test_gradient_leads_to_what_the_critic_likes(encoder_config, make_batch, monkeypatch):
    """A critic who likes one item: the generator's odds of it rise along its own gradient."""
    task = SequenceGan(encoder_config, adversarial_weight=1.0)
    params, batch = jax.jit(task.init)(jax.random.key(0)), make_batch([[12]] * 3)
    liked = 9

    def judge(self, critic, x, starts):
        return 500 * x @ critic["reader"]["table"][liked]

    monkeypatch.setattr(SequenceGan, "_judge", judge)

    def odds(params):
        table, bias = task.item_table(params)
        states = task._read(params, batch)
        return jnp.mean(jax.nn.softmax(states @ table.T + bias[None, None])[..., liked])

    grads = _gradients(task, params, batch, "generator")
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert odds(moved) > 1.05 * odds(params)


@pytest.mark.slow  # compiles
def test_settings_change_the_losses(gan, make_batch):
    (task, params), batch = gan, make_batch(LENGTHS)

    def generator(**change):
        changed = dataclasses.replace(task, **change)
        return _gradients(changed, params, batch, "generator")["generator"]["table"]

    plain = generator()
    assert np.abs(generator(gumbel_temperature=0.5) - plain).max() > 1e-6
    np.testing.assert_allclose(generator(adversarial_weight=0.2), 2 * plain, rtol=1e-3, atol=1e-7)
    for name in ("gumbel_temperature", "adversarial_weight"):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            dataclasses.replace(task, **{name: 0.0})


@pytest.mark.slow  # 600 steps
def test_the_game_alone_teaches_which_item_follows(encoder_config):
    """Item 5 + i is followed by 5 + (i + 1) % 6; the next item's loss has no part in it."""
    config = dataclasses.replace(encoder_config, vocab_size=11, hidden_dim=16)
    task = SequenceGan(config, adversarial_weight=1.0)
    params, optimizer = jax.jit(task.init)(jax.random.key(0)), optax.adam(1e-2, b1=0.5)
    state = optimizer.init(params)
    shape = (64, 6)
    batch = {"segments": jnp.ones(shape, jnp.int32), "weights": jnp.ones(shape)}
    batch["positions"] = jnp.broadcast_to(jnp.arange(6)[None], shape)

    @jax.jit
    def step(params, state, key):
        starts = jax.random.randint(key, (64, 1), 0, 6)
        items = 5 + (starts + jnp.arange(6)[None]) % 6

        def total(params):
            keys = jax.random.split(jax.random.fold_in(key, 1), 64)
            found = task.loss(params, batch | {"items": items}, {}, keys=keys, train=True)
            return sum(found[name][0] / found[name][1] for name in ("generator", "critic"))

        updates, state = optimizer.update(jax.grad(total)(params), state, params)
        return optax.apply_updates(params, updates), state

    def share_of_right_steps(params):
        starts = jnp.asarray(np.random.default_rng(0).integers(5, 11, shape), jnp.int32)
        items, _ = _play(
            task, params, batch | {"items": starts}, jax.random.split(jax.random.key(9), 64)
        )
        return np.mean((np.asarray(items)[:, 1:] - np.asarray(items)[:, :-1]) % 6 == 1)

    before = share_of_right_steps(params)
    for key in jax.random.split(jax.random.key(1), 600):
        params, state = step(params, state, key)
    assert before < 0.3 and share_of_right_steps(params) > 0.6
