import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import INPUTS, BertEncoder

CONSTANTS = {"item_category": jnp.arange(30) % 5}
USERS = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16]]


@functools.cache
def _init(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    batch = {name: ids for name in ("items", "actions", "gaps", "positions", "segments")}
    init = jax.jit(BertEncoder(config).init, static_argnums=3)
    return nn.meta.unbox(init(jax.random.key(0), batch, CONSTANTS, False)["params"])


@functools.cache
def _compiled(config):
    return jax.jit(BertEncoder(config).apply, static_argnums=3)


def _run(config, params, batch, causal=False, keys=None):
    out = _compiled(config)({"params": params}, batch, CONSTANTS, causal, keys)
    return np.asarray(out, np.float32)


@pytest.mark.parametrize(("norm", "causal"), [("pre", True), ("post", False)])
def test_packed_users_equal_separate_rows(make_config, lay_out, norm, causal):
    config = make_config(norm=norm, num_layers=2)
    packed, single = lay_out([USERS], 12), lay_out([[user] for user in USERS], 12)
    params = _init(config)
    together = _run(config, params, packed, causal)[0]
    alone = _run(config, params, single, causal)
    start = 0
    for row, user in enumerate(USERS):
        part = together[start : start + len(user)]
        np.testing.assert_allclose(part, alone[row, : len(user)], atol=1e-5)
        start += len(user)


def test_padding_changes_nothing(make_config, lay_out):
    config, causal = make_config(), False
    long, short = lay_out([[USERS[0]]], 12), lay_out([[USERS[0]]], 4)
    params = _init(config)
    spoiled = long | {"items": long["items"].at[:, 4:].set(17)}
    expected = _run(config, params, short, causal)
    np.testing.assert_allclose(_run(config, params, long, causal)[:, :4], expected, atol=1e-5)
    np.testing.assert_allclose(_run(config, params, spoiled, causal)[:, :4], expected, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_later_event_changes_the_past_only_when_bidirectional(make_config, lay_out, causal):
    config = make_config()
    before, after = lay_out([[[5, 6, 7, 8]]], 4), lay_out([[[5, 6, 7, 9]]], 4)
    params = _init(config)
    difference = np.abs(
        _run(config, params, before, causal) - _run(config, params, after, causal)
    ).max(axis=(0, 2))
    assert difference[3] > 1e-3
    assert (difference[:3].max() == 0) == causal


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_is_seen_when_named_and_only_then(make_config, lay_out, name):
    batch = lay_out([[[5, 6, 7]]], 3)
    field = {"item": "items", "action": "actions", "gap": "gaps", "position": "positions"}
    changed, changed_constants = batch, CONSTANTS
    if name == "category":
        changed_constants = {"item_category": (CONSTANTS["item_category"] + 1) % 5}
    else:
        changed = batch | {field[name]: (batch[field[name]] + 1) % 4}
    everything = make_config()
    assert not np.allclose(*_pair(everything, batch, changed, changed_constants), atol=1e-6)
    if name != "item":
        rest = make_config(inputs=tuple(other for other in INPUTS if other != name))
        np.testing.assert_array_equal(*_pair(rest, batch, changed, changed_constants))


def _pair(config, batch, changed, changed_constants):
    """Runs the parameters of the full model, of which `config` may use a part."""
    variables = {"params": _init(dataclasses.replace(config, inputs=INPUTS))}
    run = _compiled(config)
    one = run(variables, batch, CONSTANTS, False)
    return one, run(variables, changed, changed_constants, False)


def test_dropout_is_deterministic_and_independent_of_the_batch(make_config, lay_out):
    config = make_config()
    batch = lay_out([[user] for user in USERS], 12)
    params, keys = _init(config), jax.random.split(jax.random.key(5), 3)
    off, on = _run(config, params, batch), _run(config, params, batch, keys=keys)
    assert not np.allclose(off, on)
    np.testing.assert_array_equal(on, _run(config, params, batch, keys=keys))
    part = {name: value[1:2] for name, value in batch.items()}
    alone = _run(config, params, part, keys=keys[1:2])
    np.testing.assert_allclose(alone[0, :3], on[1, :3], atol=1e-5)
    other = _run(config, params, batch, keys=jax.random.split(jax.random.key(6), 3))
    assert not np.allclose(other, on)


@pytest.mark.parametrize("knob", ["dropout_rate", "attention_dropout_rate"])
def test_each_dropout_rate_has_an_effect(make_config, lay_out, knob):
    off = make_config(dropout_rate=0.0, attention_dropout_rate=0.0)
    on = make_config(**({"dropout_rate": 0.0, "attention_dropout_rate": 0.0} | {knob: 0.5}))
    batch, keys = lay_out([[USERS[2]]], 5), jax.random.split(jax.random.key(1), 1)
    params = _init(off)
    plain = _run(off, params, batch)
    np.testing.assert_array_equal(_run(off, params, batch, keys=keys), plain)
    assert not np.allclose(_run(on, params, batch, keys=keys), plain)


def test_bfloat16_is_close_to_float32_and_keeps_float32_parameters(make_config, lay_out):
    batch = lay_out([USERS], 12)
    params = _init(make_config(dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    run = _compiled(make_config(dtype="bfloat16"))
    out = run({"params": params}, batch, CONSTANTS, True)
    assert out.dtype == jnp.bfloat16
    exact = _run(make_config(), params, batch, causal=True)
    assert np.abs(np.asarray(out, np.float32) - exact).mean() < 0.02


def test_embed_then_encode_equals_the_call(make_config, lay_out):
    config, batch = make_config(), lay_out([USERS], 12)
    encoder, variables = BertEncoder(config), {"params": _init(config)}
    x = encoder.apply(variables, batch, CONSTANTS, method="embed")
    out = encoder.apply(variables, x, batch["segments"], True, method="encode")
    expected = _run(config, variables["params"], batch, causal=True)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_rows_longer_than_the_position_table_are_refused(make_config, lay_out):
    with pytest.raises(ValueError, match="max_len 12"):
        _run(make_config(), _init(make_config()), lay_out([USERS], 13))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "not divisible"),
        ({"norm": "rms"}, "'pre' or 'post'"),
        ({"dtype": "float16"}, "'float32' or 'bfloat16'"),
        ({"inputs": ("action",)}, "'item'"),
        ({"inputs": ("item", "brand")}, "brand"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
    ],
)
def test_config_names_what_is_wrong(make_config, change, message):
    with pytest.raises(ValueError, match=message):
        make_config(**change)
