import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses import draw_negatives


def _draw(seed, rows, count, **settings):
    keys = jax.random.split(jax.random.key(seed), rows)
    draw = jax.jit(lambda keys: draw_negatives(keys, count, **settings))
    return (np.asarray(array) for array in draw(keys))


def _expected_share(proposal, num_items):
    """By hand: octaves of the rank share the mass of log2(n + 1), the last one what is left."""
    if proposal == "uniform":
        return np.full(num_items, 1 / num_items)
    octaves, shares = np.log2(num_items + 1), np.zeros(num_items)
    for octave in range(int(np.ceil(octaves))):
        ranks = np.arange(2**octave, min(2 ** (octave + 1), num_items + 1))
        shares[ranks - 1] = min(1, octaves - octave) / octaves / len(ranks)
    return shares


@pytest.mark.parametrize("proposal", ["uniform", "log_uniform"])
@pytest.mark.parametrize("num_items", [22, 31])
def test_draws_follow_the_probabilities_they_state(proposal, num_items):
    ids, log_expected = _draw(0, 4000, 50, num_ids=num_items + 5, proposal=proposal)
    assert ids.min() == 5 and ids.max() == num_items + 4
    shares = _expected_share(proposal, num_items)
    assert abs(shares.sum() - 1) < 1e-9
    np.testing.assert_allclose(np.exp(log_expected), 50 * shares[ids - 5], rtol=1e-4)
    counts = np.bincount(ids.ravel() - 5, minlength=num_items)
    errors = (counts - ids.size * shares) / np.sqrt(ids.size * shares)
    assert np.abs(errors).max() < 4.5


def test_tail_of_a_large_catalogue_is_not_skipped():
    """The inverse of one float32 uniform reaches about every tenth of these ranks."""
    ids, _ = _draw(1, 100, 20_000, num_ids=(1 << 26) + 5, proposal="log_uniform")
    tail = ids[ids > 1 << 25]
    assert len(tail) > 50_000
    assert abs((tail % 2).mean() - 0.5) < 0.02 and len(np.unique(tail % 16)) == 16
    assert len(np.unique(tail)) > 0.997 * len(tail)


def test_rows_depend_on_their_key_only_and_the_proposal_is_checked():
    keys = jax.random.split(jax.random.key(2), 3)
    ids, _ = draw_negatives(keys, 4, num_ids=50, proposal="uniform")
    alone, _ = draw_negatives(keys[2:], 4, num_ids=50, proposal="uniform")
    np.testing.assert_array_equal(ids[2:], alone)
    assert not jnp.array_equal(ids[0], ids[1])
    with pytest.raises(ValueError, match="uniform, log_uniform, got 'zipf'"):
        draw_negatives(keys, 4, num_ids=50, proposal="zipf")
