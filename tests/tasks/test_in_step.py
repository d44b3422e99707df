"""What training does to embedded events in the step: noise, mixtures and adversaries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from recjax.errors import UserError
from recjax.expansion.on_device import Adversary, InStep, VirtualAdversary
from recjax.losses import CatalogueLoss
from recjax.main import dotted_keys
from recjax.models import fold_in_rows
from recjax.objectives import make_next_item_task
from recjax.tasks import NextItem, row_draws

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]
KEYS = jax.random.split(jax.random.key(0), 3)


@pytest.fixture
def setting(encoder_config, make_batch, constants, init):
    config = dataclasses.replace(encoder_config, dropout_rate=0.0, attention_dropout_rate=0.0)
    task = NextItem(config, item_loss=CatalogueLoss(loss_chunk=8))
    return task, init(task), make_batch(LENGTHS), constants


def _losses(setting, train=True, keys=KEYS, **in_step):
    task, params, batch, constants = setting
    changed = dataclasses.replace(task, in_step=InStep(**in_step))
    run = jax.jit(lambda p, b, k: changed.loss(p, b, constants, keys=k, train=train))
    return run(params, batch, keys)


def test_nothing_is_done_outside_of_training_nor_where_all_is_off(setting):
    everything = {
        "noise_size": 0.5,
        "mixup_alpha": 1.0,
        "adversary": Adversary("fgm"),
        "virtual": VirtualAdversary(weight=1.0),
    }
    plain = _losses(setting)
    assert set(plain) == {"next_item"}
    np.testing.assert_allclose(
        _losses(setting, train=False, **everything)["next_item"], plain["next_item"]
    )
    assert set(_losses(setting, **everything)) == {
        "next_item", "next_item_adversarial", "next_item_virtual"
    }  # fmt: skip


def test_mixed_loss_is_that_of_mixed_states_and_targets(setting):
    task, params, batch, constants = setting
    in_step = InStep(mixup_alpha=0.7)

    @jax.jit
    def parts(params, batch):
        _, _, targets, weights = task.ask(batch)
        keys = fold_in_rows(KEYS, row_draws.MIXTURE)
        hidden = task.encode(params, batch, constants, causal=True)
        return hidden, targets, weights, *in_step.draw_mixture(keys, weights)

    hidden, targets, weights, partners, share = (np.asarray(x) for x in parts(params, batch))
    table, bias = task.item_table(params)
    total = 0.0
    for row in range(3):
        assert sorted(partners[row]) == list(range(12))
        for own, other in enumerate(partners[row]):
            kept = share[row, own]
            assert (0 < kept < 1) or not (weights[row, own] > 0 and weights[row, other] > 0)
            mixed = kept * hidden[row, own] + (1 - kept) * hidden[row, other]
            logits = mixed @ table[5:].T + bias[5:]
            for place, part in ((own, kept), (other, 1 - kept)):
                if weights[row, place] and part:
                    loss = optax.softmax_cross_entropy_with_integer_labels(
                        logits, targets[row, place] - 5
                    )
                    total += part * weights[row, place] * float(loss)
    found = _losses(setting, mixup_alpha=0.7)["next_item"]
    np.testing.assert_allclose(found[0], total, rtol=1e-4)
    assert abs(found[0] / found[1] - np.divide(*_losses(setting)["next_item"])) > 1e-4


def test_noise_is_as_large_as_asked_and_a_row_depends_on_its_key(setting):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 40, 64)), jnp.float32) * 7
    noisy = InStep(noise_size=0.2).add_noise(KEYS, x)
    assert abs(float(jnp.std(noisy - x) / (0.2 * jnp.std(x))) - 1) < 0.05
    single = InStep(noise_size=0.2).add_noise(KEYS[1:2], x[1:2])
    np.testing.assert_allclose(single[0], noisy[1], rtol=1e-6, atol=1e-5)
    assert InStep().add_noise(KEYS, x) is x
    assert _losses(setting, noise_size=0.3)["next_item"][0] != _losses(setting)["next_item"][0]


def test_adversary_finds_a_higher_loss_of_the_next_item(setting):
    far = _losses(setting, adversary=Adversary("fgm", size=0.05))
    assert far["next_item_adversarial"][0] > far["next_item"][0]
    still = _losses(setting, adversary=Adversary("pgd", size=0.0, weight=0.5))
    np.testing.assert_allclose(
        still["next_item_adversarial"][0], still["next_item"][0] / 2, rtol=1e-5
    )


def test_virtual_shift_moves_the_answer_more_than_others_of_its_length():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(12, 30)), jnp.float32)
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 3)), jnp.float32)

    def answer(x):
        return jax.nn.log_softmax(3 * x.reshape(3, 12) @ matrix)

    clean = answer(inputs)

    def divergence(shift):
        return (jnp.exp(clean) * (clean - answer(inputs + shift))).sum()

    adversary = VirtualAdversary(weight=1.0, size=0.05)
    shift = jax.jit(lambda keys: adversary.shift(keys, divergence, inputs))(KEYS)
    norms = jnp.sqrt(jnp.square(shift).sum((1, 2)) / jnp.square(inputs).sum((1, 2)))
    np.testing.assert_allclose(norms, 0.05, rtol=1e-4)
    rng = np.random.default_rng(2)
    others = []
    for _ in range(50):
        random = jnp.asarray(rng.normal(size=inputs.shape), jnp.float32)
        length = jnp.sqrt(jnp.square(shift).sum((1, 2)) / jnp.square(random).sum((1, 2)))
        others.append(float(divergence(random * length[:, None, None])))
    assert divergence(shift) > max(others)


@pytest.mark.slow  # compiles
def test_virtual_loss_is_a_divergence_that_vanishes_with_the_shift(setting):
    def virtual(size, weight=1.0):
        found = _losses(setting, virtual=VirtualAdversary(weight, size))
        return float(found["next_item_virtual"][0])

    far = virtual(0.3)
    assert abs(virtual(0.0)) < 1e-5 < far
    np.testing.assert_allclose(virtual(0.3, weight=0.5), far / 2, rtol=1e-5)


@pytest.mark.slow  # compiles
def test_gradients_are_finite_with_all_at_once_and_on_an_empty_batch(setting):
    task, params, batch, constants = setting
    everything = InStep(0.1, 0.5, Adversary("pgd", steps=2), VirtualAdversary(weight=1.0))
    task = dataclasses.replace(task, in_step=everything)

    @jax.jit
    def gradients(batch):
        def total(params):
            losses = task.loss(params, batch, constants, keys=KEYS, train=True)
            return sum(loss for loss, _ in losses.values())

        return jax.grad(total)(params)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(batch)))
    empty = jax.tree.map(jnp.zeros_like, batch)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients(empty)))


OTHER = {  # setting: another value, and what must be on for it to act
    "noise_size": (0.3, {}),
    "mixup_alpha": (0.5, {}),
    "adversarial.method": ("fgm", {}),
    "adversarial.size": (0.3, {"adversarial.method": "fgm"}),
    "adversarial.steps": (1, {"adversarial.method": "pgd"}),
    "adversarial.weight": (0.3, {"adversarial.method": "fgm"}),
    "virtual.weight": (0.5, {}),
    "virtual.size": (0.3, {"virtual.weight": 1.0}),
    "virtual.items": (5, {"virtual.weight": 1.0}),
}


def test_every_setting_is_tested():
    keys = set(dotted_keys(default.get_config().finetune.next_item.in_step))
    sections = {key.partition(".")[0] for key in keys if "." in key}
    assert set(OTHER) == keys - sections


@pytest.mark.slow  # compiles a loss for each
@pytest.mark.parametrize("key", OTHER)
def test_setting_changes_the_loss(key, setting):
    task, params, batch, constants = setting
    value, others = OTHER[key]

    def loss(changes):
        config = default.get_config()
        for name, changed in changes.items():
            section = config.finetune.next_item.in_step
            *path, last = name.split(".")
            for part in path:
                section = section[part]
            section[last] = changed
        made = make_next_item_task(config, task.encoder)
        run = jax.jit(lambda params: made.loss(params, batch, constants, keys=KEYS, train=True))
        losses = run(params)
        return float(sum(total / weight for total, weight in losses.values()))

    assert abs(loss(others) - loss({**others, key: value})) > 1e-6


def test_bad_settings_are_named(encoder_config):
    config = default.get_config()
    config.finetune.next_item.in_step.noise_size = -1.0
    with pytest.raises(UserError, match="config.finetune.next_item: noise_size = -1.0"):
        make_next_item_task(config, encoder_config)
    with pytest.raises(ValueError, match="virtual_items = 0; it must be at least 1"):
        VirtualAdversary(items=0)
    with pytest.raises(ValueError, match="soft_targets needs mixup_alpha = 0"):
        NextItem(encoder_config, soft_targets=0.5, in_step=InStep(mixup_alpha=1.0))
