import pytest
from tiny_training import ENCODER

from configs.default import get_config
from recjax.errors import UserError
from recjax.objectives import OBJECTIVES, make_pretrain_task
from recjax.text_objectives import TEXT_OBJECTIVES


def config_of(**weights):
    config = get_config()
    config.pretrain.objectives.masked_item = 0.0
    config.pretrain.objectives.update(weights)
    return config


def test_the_config_names_every_objective_and_no_other():
    assert set(get_config().pretrain.objectives) == OBJECTIVES.keys() | TEXT_OBJECTIVES.keys()


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
