"""Buckets of distance and time, and the bias that is made of them, against loops in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from recjax.models import attend
from recjax.models.relative import RelativeBias, elapsed_buckets, position_buckets

NUM_GAP_BINS, MAX_LEN = 16, 12


def _side(bucket, query, key, side):
    return bucket + side if query < key else bucket


def test_position_buckets_are_exact_when_near_and_halve_the_octave_when_far():
    buckets = np.asarray(position_buckets(300))[0]
    for query, key in [(0, 0), (5, 5), (9, 2), (2, 9), (299, 0), (0, 299), (20, 4), (4, 127)]:
        distance = abs(query - key)
        far = 8 + math.floor(2 * math.log2(distance / 8) + 1e-9) if distance >= 8 else distance
        assert buckets[query, key] == _side(min(far, 15), query, key, 16)
    assert set(np.unique(buckets)) == set(range(32)) - {16}


def _elapsed_by_hand(gaps):
    """Bucket of every pair by adding up the seconds between the two, one event at a time."""
    out = np.zeros((len(gaps), len(gaps)), int)
    for query, key in np.ndindex(out.shape):
        between = gaps[min(query, key) + 1 : max(query, key) + 1]
        seconds = sum(2 ** (b - 1) for b in between if b > 1)
        bucket = math.floor(math.log2(1 + seconds))
        out[query, key] = 64 if NUM_GAP_BINS in between else _side(bucket, query, key, 32)
    return out


def _buckets(rows):
    return np.asarray(
        elapsed_buckets(jnp.asarray(rows), num_gap_bins=NUM_GAP_BINS, max_len=MAX_LEN)
    )


def test_elapsed_time_is_the_sum_of_the_gaps_between():
    rows = np.random.default_rng(0).integers(0, NUM_GAP_BINS, (3, MAX_LEN)).astype(np.int32)
    rows[1, 4] = rows[2, -1] = NUM_GAP_BINS  # hidden
    for row, found in zip(rows, _buckets(rows), strict=True):
        np.testing.assert_array_equal(found, _elapsed_by_hand(row))


def test_neighbours_have_the_bin_of_their_gap():
    gaps = np.arange(1, NUM_GAP_BINS, dtype=np.int32)
    found = _buckets(gaps[None])[0]
    np.testing.assert_array_equal(np.diagonal(found, -1), gaps[1:] - 1)


def test_the_longest_gaps_of_the_longest_segment_do_not_overflow():
    gaps = np.full((1, MAX_LEN), 62, np.int32)
    found = np.asarray(elapsed_buckets(jnp.asarray(gaps), num_gap_bins=63, max_len=MAX_LEN))
    past = found[0][np.tril_indices(MAX_LEN, -1)]
    assert past.min() == 27 and past.max() == math.floor(math.log2(11 * 2**27))


def test_bias_is_added_per_head_to_the_scores():
    parts = [jax.random.normal(key, (1, 4, 2, 4)) for key in jax.random.split(jax.random.key(0), 3)]
    rng, gaps = np.random.default_rng(1), jnp.asarray([[0, 3, 9, 1]])
    buckets = {
        "gap": elapsed_buckets(gaps, num_gap_bins=NUM_GAP_BINS, max_len=MAX_LEN),
        "position": position_buckets(4),
    }
    tables = {"gap": rng.normal(size=(65, 2)), "position": rng.normal(size=(32, 2))}
    bias = RelativeBias(2).apply({"params": jax.tree.map(jnp.float32, tables)}, buckets)
    found = attend(*parts, jnp.ones((1, 4), jnp.int32), causal=True, bias=bias)
    query, key, value = (np.asarray(part)[0] for part in parts)
    for at, head in np.ndindex(4, 2):
        scores = np.array(
            [
                query[at, head] @ key[other, head] / 2
                + sum(tables[name][buckets[name][0, at, other], head] for name in tables)
                for other in range(at + 1)
            ]
        )
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = weights @ value[: at + 1, head]
        np.testing.assert_allclose(found[0, at, head], expected, atol=1e-5)
