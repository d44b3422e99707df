import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import ENCODERS, INPUTS, EventEncoder

CONSTANTS = {"item_category": jnp.arange(30) % 5}
BOTH = ("position", "gap")
KINDS = {
    "bert": {},
    "bert with bias": {"relative_bias": BOTH},
    "hstu": {"encoder": "hstu", "relative_bias": BOTH},
    "gru": {"encoder": "gru"},
}
WAYS = [(kind, causal) for kind in KINDS for causal in (False, True) if causal or kind != "gru"]
USERS = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16]]


@functools.cache
def _init(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    batch = {name: ids for name in ("items", "actions", "gaps", "positions", "segments")}
    init = jax.jit(EventEncoder(config).init, static_argnums=3)
    return nn.meta.unbox(init(jax.random.key(0), batch, CONSTANTS, True)["params"])


@functools.cache
def _compiled(config):
    return jax.jit(EventEncoder(config).apply, static_argnums=3)


def _run(config, params, batch, causal=False, keys=None):
    out = _compiled(config)({"params": params}, batch, CONSTANTS, causal, keys)
    return np.asarray(out, np.float32)


def test_every_encoder_is_tested_here():
    assert {kind.split()[0] for kind in KINDS} == set(ENCODERS)


@pytest.mark.parametrize(("kind", "causal"), WAYS)
def test_packed_users_equal_separate_rows(make_config, lay_out, kind, causal):
    config = make_config(norm="pre" if causal else "post", **KINDS[kind])
    batch = lay_out([USERS, *([user] for user in USERS)], 12)
    together, *alone = _run(config, _init(config), batch, causal)
    start = 0
    for row, user in enumerate(USERS):
        part = together[start : start + len(user)]
        np.testing.assert_allclose(part, alone[row][: len(user)], atol=1e-5)
        start += len(user)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(make_config, lay_out, kind):
    config, causal = make_config(**KINDS[kind]), kind == "gru"
    long, short = lay_out([[USERS[0]]], 12), lay_out([[USERS[0]]], 4)
    params = _init(config)
    spoiled = long | {"items": long["items"].at[:, 4:].set(17)}
    expected = _run(config, params, short, causal)
    np.testing.assert_allclose(_run(config, params, long, causal)[:, :4], expected, atol=1e-5)
    np.testing.assert_allclose(_run(config, params, spoiled, causal)[:, :4], expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "causal"), WAYS)
def test_a_later_event_changes_the_past_only_when_bidirectional(make_config, lay_out, kind, causal):
    config = make_config(**KINDS[kind])
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


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_to_float32_and_keeps_float32_parameters(make_config, lay_out, kind):
    batch, config = lay_out([USERS], 12), make_config(**KINDS[kind])
    narrow = dataclasses.replace(config, dtype="bfloat16")
    params = jax.eval_shape(lambda: _init(narrow))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    params = _init(config)
    out = _compiled(narrow)({"params": params}, batch, CONSTANTS, True)
    assert out.dtype == jnp.bfloat16
    exact = _run(config, params, batch, causal=True)
    assert np.abs(np.asarray(out, np.float32) - exact).mean() < 0.02


def test_embed_then_encode_equals_the_call(make_config, lay_out):
    config, batch = make_config(), lay_out([USERS], 12)
    encoder, variables = EventEncoder(config), {"params": _init(config)}
    x = encoder.apply(variables, batch, CONSTANTS, method="embed")
    out = encoder.apply(variables, x, batch, True, method="encode")
    expected = _run(config, variables["params"], batch, causal=True)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert"])
def test_gradients_are_finite_and_reach_every_parameter(make_config, lay_out, kind):
    config, batch = make_config(**KINDS[kind]), lay_out([USERS], 12)

    @jax.jit
    def gradient(params):
        def loss(params):
            out = EventEncoder(config).apply({"params": params}, batch, CONSTANTS, True)
            return jnp.square(out - 1).sum()

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(_init(config))):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("encoder", ["bert", "hstu"])
def test_each_relative_bias_has_an_effect(make_config, lay_out, encoder):
    config = make_config(encoder=encoder, relative_bias=BOTH)
    batch, params = lay_out([USERS], 12), _init(config)
    plain = _run(config, params, batch)
    for name in BOTH:
        zero = functools.partial(_zero_table, name)
        without = jax.tree_util.tree_map_with_path(zero, params)
        assert not np.allclose(_run(config, without, batch), plain, atol=1e-6)


def _zero_table(name, path, leaf):
    at = jax.tree_util.keystr(path)
    return jnp.zeros_like(leaf) if at.endswith(f"['relative_bias']['{name}']") else leaf


def test_time_between_events_is_seen_through_the_bias_alone(make_config, lay_out):
    config = make_config(inputs=("item",), relative_bias=("gap",))
    batch = lay_out([[[5, 6, 7]]], 3)
    later = batch | {"gaps": batch["gaps"].at[0, 2].set(5)}
    params = _init(config)
    assert not np.allclose(_run(config, params, batch), _run(config, params, later), atol=1e-6)


def test_a_gru_refuses_to_look_ahead(make_config, lay_out):
    config = make_config(encoder="gru")
    with pytest.raises(ValueError, match="'gru' reads forward only.*'hstu'.*next_item"):
        _run(config, _init(config), lay_out([USERS], 12), causal=False)


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
        ({"encoder": "lstm"}, "'bert', 'hstu', 'gru'.*'lstm'"),
        ({"relative_bias": ("price",)}, "'position', 'gap'.*price"),
        ({"relative_bias": ("gap",), "encoder": "gru"}, "with attention, not 'gru'"),
    ],
)
def test_config_names_what_is_wrong(make_config, change, message):
    with pytest.raises(ValueError, match=message):
        make_config(**change)
