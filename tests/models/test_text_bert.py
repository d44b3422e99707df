import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import TextBert, TextConfig, init_text_bert, to_bert_settings, to_text_config

TEXTS = [[3, 9, 4, 7], [5, 6, 11]]


@functools.cache
def _run(config, method="__call__"):
    return jax.jit(functools.partial(TextBert(config).apply, method=method))


def _batch(rows, length):
    """Rows of texts: tokens, their positions, and one segment per text."""
    names = ("tokens", "positions", "segments")
    batch = {name: np.zeros((len(rows), length), np.int32) for name in names}
    for row, texts in enumerate(rows):
        tokens = [token for text in texts for token in text]
        at = (row, slice(0, len(tokens)))
        batch["tokens"][at] = tokens
        batch["positions"][at] = [place for text in texts for place in range(len(text))]
        batch["segments"][at] = [n for n, text in enumerate(texts, 1) for _ in text]
    return batch


def test_texts_packed_in_one_row_do_not_see_each_other(text_config, random_params):
    variables = {"params": random_params(text_config)}
    together = _run(text_config)(variables, _batch([TEXTS], 8)).hidden[0]
    alone = _run(text_config)(variables, _batch([[text] for text in TEXTS], 8)).hidden
    np.testing.assert_allclose(together[:4], alone[0, :4], atol=1e-5)
    np.testing.assert_allclose(together[4:7], alone[1, :3], atol=1e-5)


def test_what_is_absent_is_counted_and_zero(text_config, random_params):
    variables, full = {"params": random_params(text_config)}, _batch([[TEXTS[0]]], 4)
    full["token_types"] = np.zeros((1, 4), np.int32)
    short = {name: full[name] for name in ("tokens", "segments")}
    run = _run(text_config, "embed")
    np.testing.assert_array_equal(run(variables, full), run(variables, short))
    for name in ("positions", "token_types"):
        other = full | {name: 1 - full[name].clip(0, 1)}
        assert not np.allclose(run(variables, full), run(variables, other))


def test_the_call_embeds_encodes_and_pools_the_first_token(text_config, random_params):
    variables, batch = {"params": random_params(text_config)}, _batch([[TEXTS[0]]], 6)
    model = TextBert(text_config)
    x = model.apply(variables, batch, method="embed")
    hidden = model.apply(variables, x, batch, False, method="encode")
    out = _run(text_config)(variables, batch)
    np.testing.assert_allclose(out.hidden, hidden, atol=1e-5)
    layer = variables["params"]["pooler"]["dense"]
    pooled = np.tanh(hidden[:, 0] @ layer["kernel"] + layer["bias"][None])
    np.testing.assert_allclose(out.pooled, pooled, atol=1e-5)


def test_output_words_are_tied_to_input_words(text_config, random_params):
    params = random_params(text_config)
    hidden = jnp.ones((2, 3, 8))
    logits = _run(text_config, "masked_token_logits")({"params": params}, hidden)
    assert logits.shape == (2, 3, 24) and logits.dtype == jnp.float32
    table = params["embedding"]["word"]["table"]
    params["embedding"]["word"]["table"] = np.concatenate([table[:1] + 1, table[1:]])
    changed = _run(text_config, "masked_token_logits")({"params": params}, hidden) != logits
    assert changed[..., 0].all() and not changed[..., 1:].any()


def test_bfloat16_computes_in_half_and_keeps_parameters_and_logits_whole(text_config):
    half = dataclasses.replace(text_config, dtype="bfloat16")
    params = nn.meta.unbox(jax.jit(lambda key: init_text_bert(half, key))(jax.random.key(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    batch = _batch([[text] for text in TEXTS], 8)
    out = _run(half)({"params": params}, batch)
    assert {out.hidden.dtype, out.pooled.dtype} == {jnp.dtype("bfloat16")}
    logits = _run(half, "masked_token_logits")({"params": params}, out.hidden)
    assert logits.dtype == jnp.float32
    exact = _run(text_config)({"params": params}, batch).hidden
    seen = batch["segments"] > 0
    assert np.abs(np.asarray(out.hidden, np.float32) - exact)[seen].mean() < 0.02


def test_dropout_needs_keys_and_follows_them(text_config, random_params):
    variables, batch = {"params": random_params(text_config)}, _batch([[TEXTS[0]]], 4)
    keys = [jax.random.split(jax.random.key(seed), 1) for seed in (0, 0, 1)]
    one, same, other = (_run(text_config)(variables, batch, key).hidden for key in keys)
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(one, _run(text_config)(variables, batch).hidden)


def test_only_the_heads_asked_for_are_made(text_config):
    made = jax.eval_shape(lambda: init_text_bert(text_config, jax.random.key(0), ("masked_token",)))
    assert "masked_token" in made and not {"pooler", "next_sentence"} & made.keys()
    with pytest.raises(ValueError, match="classifier"):
        init_text_bert(text_config, jax.random.key(0), ("classifier",))


def test_tables_and_vocabulary_bias_have_logical_axes(text_config):
    boxed = jax.eval_shape(lambda: init_text_bert(text_config, jax.random.key(0)))
    assert boxed["embedding"]["word"]["table"].names == ("words", "embed")
    assert boxed["masked_token"]["bias"].names == ("words",)


def test_texts_longer_than_the_position_table_are_refused(text_config, random_params):
    with pytest.raises(ValueError, match="11 tokens exceed max_len 10"):
        _run(text_config)({"params": random_params(text_config)}, _batch([[TEXTS[0]]], 11))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
        ({"num_token_types": 0}, "num_token_types must be at least 1"),
        ({"num_heads": 3}, "not divisible"),
        ({"remat": "all"}, "remat must be one of"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
    ],
)
def test_config_names_what_is_wrong(text_config, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(text_config, **change)


def test_settings_of_transformers_come_and_go_without_loss():
    from transformers import BertConfig

    assert dataclasses.replace(to_text_config(BertConfig()), other_settings="{}") == TextConfig()
    bert = BertConfig(
        vocab_size=99, hidden_size=24, num_attention_heads=3, num_hidden_layers=5,
        intermediate_size=7, max_position_embeddings=11, type_vocab_size=3, pad_token_id=4,
        layer_norm_eps=1e-7, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.4,
        initializer_range=0.5, classifier_dropout=0.6,
    )  # fmt: skip
    config = to_text_config(bert)
    assert (config.hidden_dim, config.max_len, config.pad_id) == (24, 11, 4)
    assert BertConfig(**to_bert_settings(config)).to_dict() == bert.to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"model_type": "roberta"}, "model_type = 'roberta'"),
        ({"is_decoder": True}, "is_decoder = True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ({"hidden_size": "768"}, "hidden_size = '768'"),
        ({"num_attention_heads": 7}, "not divisible"),
    ],
)
def test_settings_of_another_model_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        to_text_config(settings)


def test_a_pre_norm_model_is_no_bert_of_theirs(text_config):
    with pytest.raises(ValueError, match="norm = 'pre'"):
        to_bert_settings(dataclasses.replace(text_config, norm="pre"))
