import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models.dropout import dropout, row_bits, row_uniform

KEYS = jax.random.split(jax.random.key(0), 64)


def test_dropout_share_and_scale_are_right():
    out = np.asarray(dropout(jnp.ones((64, 50, 40)), 0.2, KEYS, site=1))
    dropped = (out == 0).mean()
    assert abs(dropped - 0.2) < 4 * np.sqrt(0.16 / out.size)
    np.testing.assert_allclose(out[out != 0], 1.25)


def test_dropout_without_keys_or_rate_is_the_identity():
    x = jnp.ones((64, 3))
    assert dropout(x, 0.5, None, site=1) is x
    assert dropout(x, 0.0, KEYS, site=1) is x


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_dropout_rejects_rates_outside_the_range(rate):
    with pytest.raises(ValueError, match="rate"):
        dropout(jnp.ones((64, 3)), rate, KEYS, site=1)


@pytest.mark.parametrize("draw", [row_bits, row_uniform])
def test_draws_depend_on_row_key_and_site_only(draw):
    whole = draw(KEYS, 3, (7, 5))
    np.testing.assert_array_equal(draw(KEYS[10:12], 3, (7, 5)), whole[10:12])
    assert not np.array_equal(draw(KEYS, 4, (7, 5)), whole)


def test_bits_are_even_and_uncorrelated_between_elements_rows_and_sites():
    bits = np.asarray(row_bits(KEYS, 1, (4096,)))
    counts = np.histogram(bits, bins=64, range=(0, 2**32))[0]
    expected = bits.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)  # chi-squared
    ones = np.unpackbits(bits.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(bits.size * 32)
    units = bits / 2**31 - 1
    other = np.asarray(row_bits(KEYS, 2, (4096,))) / 2**31 - 1
    for pair in (units[:, 1:] * units[:, :-1], units[1:] * units[:-1], units * other):
        assert abs(pair.mean()) < 5 / 3 / np.sqrt(pair.size)
