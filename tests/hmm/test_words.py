"""The hash against JAX's own, and its streams."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from recjax.hmm.words import _PURPOSES, RowWords, threefry


def test_hash_equals_the_one_of_jax():
    words = np.random.default_rng(0).integers(0, 2**32, (50, 4), dtype=np.uint32)
    for one, two, left, right in words:
        expected = threefry_2x32((one, two), jnp.asarray([left, right]))
        found = threefry((jnp.uint32(one), jnp.uint32(two)), (jnp.uint32(left), jnp.uint32(right)))
        np.testing.assert_array_equal(jnp.stack(found), expected)


def test_words_differ_by_row_time_purpose_and_attempt():
    words = RowWords.of(jax.random.key(0), jnp.arange(50))
    times = jnp.arange(40)[:, None]
    drawn = [
        np.asarray(words.word(purpose, times, attempt)).ravel()
        for purpose in _PURPOSES
        for attempt in (0, 1)
    ]
    drawn = np.concatenate(drawn)
    assert np.unique(drawn).size > drawn.size - 5  # 32,000 of 2^32: .1 collisions expected
    bits = (drawn[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(drawn.size)


def test_words_of_a_step_equal_those_of_all_steps():
    words = RowWords.of(jax.random.key(0), jnp.arange(5))
    grid = words.word("item", jnp.arange(7)[:, None])
    assert grid.shape == (7, 5)
    np.testing.assert_array_equal(grid[3], words.word("item", jnp.asarray(3)))
