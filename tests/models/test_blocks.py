"""Scan and recomputation change how a model is compiled, never what it computes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import EventEncoder, stack_layers

CONSTANTS = {"item_category": jnp.arange(30) % 5}
USERS = [[[5, 6, 7, 8], [9, 10]], [[12, 13, 14]]]


@functools.cache
def _init(config):
    ids = jnp.zeros((1, 2), jnp.int32)
    batch = {name: ids for name in ("items", "actions", "gaps", "positions", "segments")}
    return jax.jit(EventEncoder(config).init, static_argnums=3)(
        jax.random.key(0), batch, CONSTANTS, True
    )["params"]


def _loss_and_gradient(config, params, batch, keys):
    def loss(params):
        out = EventEncoder(config).apply({"params": params}, batch, CONSTANTS, True, keys)
        return jnp.square(out * (batch["segments"] > 0)[..., None]).mean()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(
    ("encoder", "scan", "remat"),
    [
        ("bert", True, "none"),
        ("bert", False, "full"),
        pytest.param("bert", False, "dots", marks=pytest.mark.slow),
        ("bert", True, "dots"),
        pytest.param("hstu", True, "dots", marks=pytest.mark.slow),
        pytest.param("gru", True, "full", marks=pytest.mark.slow),
    ],
)
def test_scan_and_remat_give_the_same_loss_and_gradient(make_config, lay_out, encoder, scan, remat):
    bias = ("position", "gap") if encoder == "hstu" else ()
    plain = make_config(num_layers=2, norm="post", encoder=encoder, relative_bias=bias)
    other = dataclasses.replace(plain, scan=scan, remat=remat)
    batch, keys = lay_out(USERS, 6), jax.random.split(jax.random.key(5), 2)
    params = nn.meta.unbox(_init(plain))
    loss, gradient = _loss_and_gradient(plain, params, batch, keys)
    laid_out = stack_layers if scan else lambda tree: tree
    other_loss, other_gradient = _loss_and_gradient(other, laid_out(params), batch, keys)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        other_gradient,
        laid_out(gradient),
    )


def test_scanned_parameters_have_a_layer_axis_and_differ_by_layer(make_config):
    config = make_config(num_layers=2, scan=True)
    boxed = _init(config)
    kernel = boxed["layers"]["mlp_in"]["kernel"]
    assert kernel.value.shape == (2, 16, 32)
    assert kernel.names == (None, "embed", "mlp")
    assert not np.allclose(kernel.value[0], kernel.value[1])
    plain = nn.meta.unbox(_init(make_config(num_layers=2)))
    assert jax.tree.map(jnp.shape, nn.meta.unbox(boxed)) == jax.tree.map(
        jnp.shape, stack_layers(plain)
    )


# of the six products of a block: the two without weights, or all but the last, which nobody reads
@pytest.mark.parametrize(("remat", "repeated"), [("none", 0), ("dots", 2), ("full", 5)])
def test_remat_decides_what_the_backward_pass_repeats(make_config, lay_out, remat, repeated):
    config = make_config(num_layers=2, remat=remat)
    params, batch = nn.meta.unbox(_init(make_config(num_layers=2))), lay_out(USERS, 6)

    def loss(params):
        return EventEncoder(config).apply({"params": params}, batch, CONSTANTS, True).sum()

    products = str(jax.make_jaxpr(jax.grad(loss))(params)).count("dot_general")
    assert products == config.num_layers * (3 * 6 + repeated)


def test_a_scanned_model_is_traced_once_per_block(make_config, lay_out):
    def products(config):
        apply = functools.partial(EventEncoder(config).apply, method="__call__")
        params = {"params": nn.meta.unbox(_init(config))}
        return str(jax.make_jaxpr(apply, static_argnums=3)(params, batch, CONSTANTS, True)).count(
            "dot_general"
        )

    batch = lay_out(USERS, 6)
    assert products(make_config(num_layers=3)) == 3 * products(make_config(num_layers=3, scan=True))
