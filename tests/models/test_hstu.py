"""HSTU's layer against the paper's equations, written as loops over pairs of events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models.hstu import HstuBlock
from recjax.models.relative import Relations, elapsed_buckets, position_buckets

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
GAPS = np.array([[0, 2, 4, 0, 1, 0], [0, 5, 5, 1, 6, 2]], np.int32)
HEADS, WIDTH = 2, 8


@pytest.fixture
def layer(make_config):
    config = make_config(
        encoder="hstu", hidden_dim=WIDTH, num_heads=HEADS, relative_bias=("position", "gap")
    )
    buckets = {
        "gap": elapsed_buckets(jnp.asarray(GAPS), num_gap_bins=6, max_len=config.max_len),
        "position": position_buckets(6),
    }
    relations = Relations(jnp.asarray(SEGMENTS), buckets)
    x = jax.random.normal(jax.random.key(0), (2, 6, WIDTH))
    init = jax.eval_shape(
        lambda: HstuBlock(config).init(jax.random.key(1), x, 0, relations, None, True)
    )
    rng = np.random.default_rng(2)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32),
        nn.meta.unbox(init["params"]),
    )
    return config, params, x, relations


def _silu(x):
    return x / (1 + np.exp(-x))


def _norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * params["scale"] + params["bias"]


def _by_loops(params, x, relations, causal, max_len):
    projection = params["gate_value_query_key"]
    parts = np.einsum("btd,dphe->pbthe", _norm(x, params["hstu_norm"]), projection["kernel"])
    gate, value, query, key = _silu(parts + projection["bias"][:, None, None])
    mixed = np.zeros_like(value)
    for row, at, other, head in np.ndindex(2, 6, 6, HEADS):
        if SEGMENTS[row, at] != SEGMENTS[row, other] or (causal and other > at):
            continue
        bias = sum(
            params["relative_bias"][name][bucket[min(row, len(bucket) - 1), at, other], head]
            for name, bucket in relations.buckets.items()
        )
        weight = _silu(query[row, at, head] @ key[row, other, head] + bias) / max_len
        mixed[row, at, head] += weight * value[row, other, head]
    out = _norm(mixed.reshape(x.shape), params["mixed_norm"]) * gate.reshape(x.shape)
    return x + out @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize("causal", [False, True])
def test_layer_equals_loops_over_pairs(layer, causal):
    config, params, x, relations = layer
    found, _ = HstuBlock(config).apply({"params": params}, x, 0, relations, None, causal)
    expected = _by_loops(params, np.asarray(x, np.float64), relations, causal, config.max_len)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_attention_dropout_changes_the_weights_only_with_keys(layer):
    config, params, x, relations = layer
    run = lambda keys: HstuBlock(config).apply(  # noqa: E731
        {"params": params}, x, 0, relations, keys, True
    )[0]
    assert not np.allclose(run(None), run(jax.random.split(jax.random.key(3), 2)))
