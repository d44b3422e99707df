"""What a config asks for is what is built, and what cannot be built is said in one message."""

import jax
import jax.numpy as jnp
import pytest

from configs import smoke
from recjax.errors import UserError
from recjax.objectives import make_pretrain_task
from recjax.recipe import make_encoder, make_recipe


def next_item_pretraining(**changes):
    config = smoke.get_config()
    config.pretrain.objectives.update({"masked_item": 0.0, "next_item": 1.0})
    config.update_from_flattened_dict(changes)
    encoder = make_encoder(config, vocab_size=25, num_categories=3, platform="cpu")
    return config, make_pretrain_task(config, encoder)


@pytest.mark.parametrize(
    ("encoder", "part"),
    [("bert", "attention"), ("hstu", "gate_value_query_key"), ("gru", "recurrent_kernel")],
)
def test_encoder_of_the_config_is_trained(encoder, part):
    config, task = next_item_pretraining(**{"model.encoder": encoder})
    recipe = make_recipe(task, config.pretrain, None)
    params = jax.eval_shape(recipe.init_params, jnp.zeros(1, jnp.uint32))
    assert part in params["encoder"]["layers_0"]


def test_relative_bias_of_the_config_gets_its_tables():
    _, task = next_item_pretraining(**{"model.relative_bias": ("gap",)})
    params = jax.eval_shape(task.init, jax.random.key(0))
    tables = params["encoder"]["layers_0"]["attention"]["relative_bias"]
    assert {name: table.shape for name, table in tables.items()} == {"gap": (65, 2)}


def test_attention_of_the_config_is_chosen_for_the_platform():
    config = smoke.get_config()
    config.model.update({"max_len": 512, "attention_dropout_rate": 0.0, "dtype": "bfloat16"})
    sizes = {"vocab_size": 25, "num_categories": 3}
    chosen = {
        platform: make_encoder(config, **sizes, platform=platform).attention
        for platform in ("cpu", "gpu", "tpu")
    }
    assert chosen == {"cpu": "xla", "gpu": "cudnn", "tpu": "splash"}
    config.model.attention = "xla"
    assert make_encoder(config, **sizes, platform="tpu").attention == "xla"
    config.model.encoder = "hstu"
    assert make_encoder(config, **sizes, platform="tpu").attention == "xla"


BIDIRECTIONAL = {"pretrain.objectives.masked_item": 1.0, "pretrain.objectives.next_item": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.encoder": "lstm"}, "config.model: encoder must be one of .*'lstm'"),
        ({"model.attention": "cudnn"}, "config.model: attention 'cudnn' needs a gpu"),
        (
            {"model.attention": "splash", "model.encoder": "hstu"},
            "config.model: attention 'splash' is a kernel of softmax attention",
        ),
        ({"model.encoder": "gru"} | BIDIRECTIONAL, "config.pretrain.*'gru' reads forward only"),
    ],
)
def test_encoder_that_cannot_be_is_the_users_to_change(changes, message):
    with pytest.raises(UserError, match=message):
        next_item_pretraining(**changes)
