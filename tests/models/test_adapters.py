import jax
import jax.numpy as jnp
import numpy as np

from recjax.models.adapters import Adapter, Prefix
from recjax.tasks.parameters import unbox


def draw(*shape):
    return jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)


def test_fresh_adapter_changes_nothing_and_a_trained_one_goes_through_the_bottleneck():
    x, adapter = draw(2, 3, 4), Adapter(2, jnp.float32)
    params = unbox(adapter.init(jax.random.key(0), x)["params"])
    np.testing.assert_array_equal(adapter.apply({"params": params}, x), x)
    params["up"]["kernel"] = draw(2, 4)
    wide = np.asarray(x) @ np.asarray(params["down"]["kernel"])
    expected = x + np.asarray(jax.nn.gelu(wide, approximate=False)) @ np.asarray(draw(2, 4))
    np.testing.assert_allclose(adapter.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-6)


def test_prefix_attends_to_its_own_positions_behind_a_gate():
    query = draw(2, 3, 2, 4)
    params = {"key": draw(5, 2, 4), "value": draw(5, 2, 4) + 1, "gate": jnp.zeros(2)}
    prefix = Prefix(5, jnp.float32)
    assert not np.any(prefix.apply({"params": params}, query))
    params["gate"] = jnp.array([0.5, -2.0])
    out = np.asarray(prefix.apply({"params": params}, query))
    for row, step, head in np.ndindex(2, 3, 2):
        scores = np.asarray(params["key"])[:, head] @ np.asarray(query)[row, step, head] / 2
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = np.tanh(params["gate"][head]) * weights @ np.asarray(params["value"])[:, head]
        np.testing.assert_allclose(out[row, step, head], expected, rtol=1e-4, atol=1e-6)
