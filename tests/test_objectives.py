import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import ENCODER, everything

from configs.default import get_config
from recjax.errors import UserError
from recjax.objectives import OBJECTIVES, make_click_task, make_pretrain_task
from recjax.text_objectives import TEXT_OBJECTIVES


def config_of(**weights):
    config = get_config()
    config.pretrain.objectives.masked_item = 0.0
    config.pretrain.objectives.update(weights)
    return config


def test_the_config_names_every_objective_and_no_other():
    assert set(get_config().pretrain.objectives) == OBJECTIVES.keys() | TEXT_OBJECTIVES.keys()


@pytest.mark.parametrize("item_objective", ["masked_item", "next_item"])
def test_all_objectives_of_a_config_read_alike(item_objective):
    mixture = make_pretrain_task(everything(item_objective), ENCODER)
    names = set(OBJECTIVES) - ({"masked_item", "next_item"} - {item_objective})
    assert {task.name for task in mixture.objectives} == names
    readings = {task.causal for task in mixture.objectives if task.name != "item_attribute"}
    assert readings == {item_objective == "next_item"}


SETTINGS = {  # key of config.pretrain: another value, the objective and its attribute
    "mask_rate": (0.4, "masked_item", "mask_rate"),
    "replaced_item.replaced_share": (0.4, "replaced_item", "replaced_share"),
    "replaced_item.proposal": ("log_uniform", "replaced_item", "proposal"),
    "sequence_contrast.augmentations": (("crop", "mask"), "sequence_contrast", "augmentations"),
    "sequence_contrast.crop_share": (0.4, "sequence_contrast", "crop_share"),
    "sequence_contrast.mask_share": (0.4, "sequence_contrast", "mask_share"),
    "sequence_contrast.reorder_share": (0.4, "sequence_contrast", "reorder_share"),
    "sequence_contrast.temperature": (0.4, "sequence_contrast", "temperature"),
    "sequence_contrast.sequences_per_row": (4, "sequence_contrast", "sequences_per_row"),
    "masked_segment.span_len": (4, "masked_segment", "span_len"),
    "masked_segment.temperature": (0.4, "masked_segment", "temperature"),
    "masked_segment.sequences_per_row": (4, "masked_segment", "sequences_per_row"),
    "next_session.foreign_share": (0.4, "next_session", "foreign_share"),
}  # that the attributes count is for the tests of each objective


def test_every_setting_of_an_objective_reaches_it():
    sections = {key.split(".")[0] for key in SETTINGS} - {"mask_rate"}
    config = everything("masked_item")
    known = {f"{name}.{key}" for name in sections for key in config.pretrain[name]}
    assert known | {"mask_rate"} == set(SETTINGS)
    for key, (value, name, attribute) in SETTINGS.items():
        config = everything("masked_item")
        config.pretrain.update_from_flattened_dict({key: value})
        tasks = {task.name: task for task in make_pretrain_task(config, ENCODER).objectives}
        assert getattr(tasks[name], attribute) == value
    config.pretrain.mask_rate = 0.4
    tasks = {task.name: task for task in make_pretrain_task(config, ENCODER).objectives}
    assert tasks["masked_attribute"].mask_rate == 0.4


def test_objectives_that_compare_rows_are_refused_under_pmap():
    config = everything("masked_item")
    config.parallel.engine = "pmap"
    with pytest.raises(
        UserError, match="next_session, sequence_contrast .* set config.parallel.engine = 'jit'"
    ):
        make_pretrain_task(config, ENCODER)


def planted_batch():
    """Users of four groups go round the five items of their group, which are a category."""
    group, steps = jnp.arange(16)[:, None] % 4, jnp.arange(8)[None]
    ids = jnp.zeros((16, 8), jnp.int32)
    start = jnp.arange(16)[:, None] // 4
    items = 5 + 5 * group + (steps + start) % 5
    batch = {"items": items.astype(jnp.int32), "actions": ids, "gaps": ids, "segments": ids + 1}
    return batch | {"positions": ids + steps.astype(jnp.int32), "weights": jnp.ones((16, 8))}


@pytest.mark.slow
def test_a_few_dozen_steps_of_the_mixture_teach_every_objective():
    encoder = dataclasses.replace(ENCODER, dropout_rate=0.0, attention_dropout_rate=0.0)
    config, batch = everything("masked_item"), planted_batch()
    config.pretrain.loss = "full"
    mixture = make_pretrain_task(config, encoder)
    constants = {"item_category": jnp.where(jnp.arange(64) < 5, 0, jnp.arange(64) // 5 % 5)}
    params, optimizer = jax.jit(mixture.init)(jax.random.key(0)), optax.adam(1e-2)
    state = optimizer.init(params)

    def total(params, keys):
        found = mixture.loss(params, batch, constants, keys=keys, train=True)
        means = {name: value / jnp.maximum(weight, 1) for name, (value, weight) in found.items()}
        return sum(means.values()), means

    @jax.jit
    def step(params, state, key):
        slopes, means = jax.grad(total, has_aux=True)(params, jax.random.split(key, 16))
        updates, state = optimizer.update(slopes, state, params)
        return optax.apply_updates(params, updates), state, means

    losses = []
    for key in jax.random.split(jax.random.key(1), 90):
        params, state, means = step(params, state, key)
        losses.append({name: 2 * float(mean) for name, mean in means.items()})  # weights are 0.5
    last = {name: np.mean([row[name] for row in losses[-10:]]) for name in losses[0]}
    guess = {  # nats of one who knows how often what happens, and nothing of the sequence
        "masked_item": np.log(20),
        "replaced_item": 0.42,  # entropy of 15 %
        "sequence_contrast": np.log(16),
        "masked_attribute": np.log(4),
        "item_attribute": np.log(4),
        "masked_segment": np.log(16),
        "next_session": np.log(2),
    }
    assert last.keys() == guess.keys()
    for name, nats in guess.items():
        assert last[name] < min(0.75 * nats, losses[0][name]), name


@pytest.mark.parametrize(("name", "causal"), [("masked_item", False), ("next_item", True)])
def test_weights_choose_objectives_and_the_reading(name, causal):
    mixture = make_pretrain_task(config_of(**{name: 0.5}), ENCODER)
    assert [task.name for task in mixture.objectives] == [name]
    assert mixture.weights == (0.5,) and mixture.causal == causal


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "exactly one of masked_item"),
        ({"masked_item": 1.0, "next_item": 1.0}, "masked_item and next_item"),
        ({"masked_item": -1.0}, "weight of masked_item must be above 0, got -1"),
        ({"masked_items": 1.0}, "unknown masked_items; known: masked_item, next_item"),
    ],
)
def test_mixtures_that_cannot_be_are_user_errors(weights, message):
    with pytest.raises(UserError, match=f"config.pretrain.objectives: .*{message}"):
        make_pretrain_task(config_of(**weights), ENCODER)


def test_a_setting_of_an_objective_out_of_range_is_a_user_error():
    config = config_of(masked_item=1.0)
    config.pretrain.mask_rate = 0.0
    with pytest.raises(UserError, match="mask_rate must be in"):
        make_pretrain_task(config, ENCODER)


def test_adversarial_settings_of_clicks_reach_the_task():
    config = get_config()
    config.finetune.click.adversarial.update(method="fgm", size=0.2)
    assert make_click_task(config, ENCODER).adversary.size == 0.2
    config.finetune.click.adversarial.method = "free"
    with pytest.raises(UserError, match="config.finetune.click: method = 'free'"):
        make_click_task(config, ENCODER)
    config.finetune.click.update(head="dim", adversarial=get_config().finetune.click.adversarial)
    with pytest.raises(UserError, match="config.finetune.click: head 'dim' is unknown; known: enc"):
        make_click_task(config, ENCODER)
