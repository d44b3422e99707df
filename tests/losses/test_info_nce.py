import jax
import jax.numpy as jnp
import numpy as np

from recjax.losses import info_nce

LABELS = np.array([7, 5, 7, 6, 9])
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0, 1.0], np.float32)


def _unit(seed):
    x = np.random.default_rng(seed).normal(size=(5, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _by_hand(left, right, labels, weights, scale):
    """Pair by pair: the own pair and every real pair of another label."""
    total = 0.0
    for one, other in ((left, right), (right, left)):
        for i, weight in enumerate(weights):
            others = [j for j in range(5) if labels[j] != labels[i] and weights[j] > 0]
            logits = np.array([scale * one[i] @ other[j] for j in [i, *others]])
            total += weight / 2 * (np.log(np.exp(logits).sum()) - logits[0])
    return total


def _ours(left, right, labels, weights):
    arrays = [jnp.asarray(x, jnp.float32) for x in (left, right)]
    return jax.jit(info_nce)(*arrays, jnp.asarray(labels), jnp.asarray(weights), jnp.float32(5))


def test_loss_is_that_of_a_loop_over_pairs():
    left, right = _unit(0), _unit(1)
    total, weight = _ours(left, right, LABELS, WEIGHTS)
    np.testing.assert_allclose(total, _by_hand(left, right, LABELS, WEIGHTS, 5), rtol=1e-5)
    assert weight == WEIGHTS.sum()


def test_a_false_negative_and_padding_do_not_count():
    left, right = _unit(0), _unit(1)
    expected = _ours(left, right, LABELS, WEIGHTS)[0]
    distinct = _ours(left, right, np.arange(5), WEIGHTS)[0]  # the defect: pair 2 as a negative of 0
    assert distinct > expected + 0.01
    right[3] = left[0]  # padding that would be the best match
    np.testing.assert_allclose(_ours(left, right, LABELS, WEIGHTS)[0], expected, rtol=1e-6)


def test_a_batch_of_padding_has_loss_0_and_finite_gradients():
    def total(left):
        return info_nce(left, left, jnp.arange(3), jnp.zeros(3), jnp.float32(5))[0]

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.ones((3, 2)))
    assert value == 0 and not np.asarray(gradient).any()


def test_partners_are_the_own_ones_not_the_first_or_the_next():
    """Labels of zeros for all rows, or partners of other rows, would cost 4 nats and more."""
    vectors = np.eye(5)
    assert _ours(vectors, vectors, np.arange(5), np.ones(5, np.float32))[0] < 0.2
    shifted = np.roll(vectors, 1, axis=0)
    assert _ours(vectors, shifted, np.arange(5), np.ones(5, np.float32))[0] > 20
