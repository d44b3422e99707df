"""Fused kernels against the XLA path: what can be, without the devices they are made for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from recjax.models import attend
from recjax.models.attention_kernels import attend_splash, choose_kernel

FITTING = {
    "platform": "gpu",
    "length": 512,
    "head_dim": 64,
    "dtype": "bfloat16",
    "dropout_rate": 0.0,
    "has_bias": False,
}
LENGTH = 256  # two tiles of the TPU kernel


def _inputs(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    parts = [jax.random.normal(key, (2, LENGTH, 2, 8), dtype) for key in keys]
    ends = np.array([[100, 200, 230], [128, 256, 256]])  # padding follows in the first row
    steps = np.arange(LENGTH)
    segments = np.array(
        [np.where(steps < row[-1], np.searchsorted(row, steps, "right") + 1, 0) for row in ends]
    )
    return parts, jnp.asarray(segments, jnp.int32)


@pytest.mark.parametrize(
    ("asked", "changes", "chosen"),
    [
        ("auto", {}, "cudnn"),
        ("auto", {"platform": "tpu"}, "splash"),
        ("auto", {"platform": "tpu", "dtype": "float32"}, "splash"),
        ("auto", {"platform": "cpu"}, "xla"),
        ("auto", {"length": 128}, "xla"),
        ("auto", {"dtype": "float32"}, "xla"),
        ("auto", {"dropout_rate": 0.1}, "xla"),
        ("auto", {"has_bias": True}, "xla"),
        ("auto", {"head_dim": 12}, "xla"),
        ("auto", {"platform": "tpu", "length": 600}, "xla"),
        ("cudnn", {"length": 50}, "cudnn"),
        ("splash", {"platform": "tpu", "length": 128}, "splash"),
        ("xla", {}, "xla"),
    ],
)
def test_choice_follows_platform_and_settings(asked, changes, chosen):
    assert choose_kernel(asked, **(FITTING | changes)) == chosen


@pytest.mark.parametrize(
    ("asked", "changes", "message"),
    [
        ("flash", {}, "'auto', 'xla', 'cudnn', 'splash'.*'flash'"),
        ("cudnn", {"platform": "cpu"}, r"'cudnn' needs a gpu \(not cpu\); 'xla' takes all"),
        ("cudnn", {"dtype": "float32"}, r"dtype 'bfloat16' \(not 'float32'\)"),
        ("cudnn", {"head_dim": 12}, r"multiple of 8 up to 128 \(not 12\)"),
        ("cudnn", {"length": 51}, r"even max_len \(not 51\)"),
        ("splash", {}, r"a tpu \(not gpu\)"),
        ("splash", {"platform": "tpu", "length": 200}, r"multiple of 128 \(not 200\)"),
        ("splash", {"platform": "tpu", "dropout_rate": 0.1}, r"dropout_rate 0 \(not 0.1\)"),
        ("splash", {"platform": "tpu", "has_bias": True}, r"relative_bias \(\)"),
    ],
)
def test_kernel_that_cannot_serve_is_refused_with_what_would(asked, changes, message):
    with pytest.raises(ValueError, match=message):
        choose_kernel(asked, **(FITTING | changes))


@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_is_asked_for_what_xla_computes(monkeypatch, causal):
    """There is no cuDNN here: JAX's own XLA path answers the same call."""
    asked, own = [], jax.nn.dot_product_attention

    def instead(*arguments, implementation, **settings):
        asked.append(implementation)
        return own(*arguments, implementation="xla", **settings)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    parts, segments = _inputs(jnp.bfloat16)
    found = attend(*parts, segments, causal=causal, kernel="cudnn")
    expected = attend(*parts, segments, causal=causal)
    assert asked == ["cudnn"] and found.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        found.astype(jnp.float32), expected.astype(jnp.float32), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("causal", [False, True])
def test_splash_equals_xla_forward_and_backward(causal):
    parts, segments = _inputs()
    real = (segments > 0)[..., None, None]

    def loss(attention, *parts):
        return jnp.square(attention(*parts, segments, causal=causal) * real).sum()

    run = jax.jit(jax.value_and_grad(loss, argnums=(1, 2, 3)), static_argnums=0)
    splash = functools.partial(attend_splash, interpret=True)
    (found, gradients), (expected, wanted) = run(splash, *parts), run(attend, *parts)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for gradient, other in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, atol=2e-4)


def test_splash_runs_on_each_devices_own_rows_and_heads():
    parts, segments = _inputs()
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    run = jax.jit(functools.partial(attend_splash, causal=True, interpret=True))
    rules = (("batch", ("data",)), ("heads", ("tensor",)))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        found = run(*parts, segments)
    expected = attend(*parts, segments, causal=True)
    np.testing.assert_allclose(
        jnp.where((segments > 0)[..., None, None], found - expected, 0), 0, atol=1e-4
    )
