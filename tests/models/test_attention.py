import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models import attend

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])


def _projections():
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (2, 6, 2, 4)) for key in keys]


def _brute_force(query, key, value, segments, causal):
    out = np.zeros_like(value)
    for b, q, h in np.ndindex(2, 6, 2):
        seen = [k for k in range(6) if segments[b, k] == segments[b, q] and (k <= q or not causal)]
        scores = np.array([query[b, q, h] @ key[b, k, h] / 2 for k in seen])
        weights = np.exp(scores) / np.exp(scores).sum()
        out[b, q, h] = weights @ value[b, seen, h]
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_attend_equals_brute_force(causal):
    parts = _projections()
    expected = _brute_force(*map(np.asarray, parts), np.asarray(SEGMENTS), causal)
    out = attend(*parts, SEGMENTS, causal=causal)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_attend_agrees_with_jax_own_attention():
    query, key, value = _projections()
    mask = SEGMENTS[:, None, :, None] == SEGMENTS[:, None, None, :]
    expected = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True)
    out = attend(query, key, value, SEGMENTS, causal=True)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_attend_drops_weights_only_with_keys():
    parts, keys = _projections(), jax.random.split(jax.random.key(1), 2)
    plain = attend(*parts, SEGMENTS, causal=False)
    settings = dict(causal=False, dropout_rate=0.5)
    np.testing.assert_array_equal(attend(*parts, SEGMENTS, **settings), plain)
    dropped = attend(*parts, SEGMENTS, **settings, keys=keys, site=1)
    assert not np.allclose(dropped, plain)


def test_attend_keeps_the_dtype_and_takes_softmax_in_float32():
    parts = [part.astype(jnp.bfloat16) for part in _projections()]
    out = attend(*parts, SEGMENTS, causal=False)
    assert out.dtype == jnp.bfloat16
    exact = attend(*_projections(), SEGMENTS, causal=False)
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.03)
