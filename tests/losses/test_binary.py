import jax.numpy as jnp
import numpy as np
from sklearn.metrics import log_loss

from recjax.losses import sigmoid_cross_entropy

LOGITS = jnp.array([-2.0, 0.5, 3.0, 80.0])
LABELS = jnp.array([0.0, 1.0, 0.0, 1.0])
WEIGHTS = jnp.array([1.0, 2.0, 0.5, 0.0])


def test_sigmoid_cross_entropy_equals_scikit_learn():
    total, weight = sigmoid_cross_entropy(LOGITS, LABELS, WEIGHTS)
    probabilities = 1 / (1 + np.exp(-np.asarray(LOGITS, np.float64)))
    expected = log_loss(LABELS, probabilities, sample_weight=np.asarray(WEIGHTS))
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)


def test_sigmoid_cross_entropy_of_padding_is_zero_and_of_sure_errors_finite():
    total, weight = sigmoid_cross_entropy(LOGITS, LABELS, WEIGHTS * 0)
    assert (float(total), float(weight)) == (0.0, 0.0)
    total, _ = sigmoid_cross_entropy(LOGITS * 1e3, 1 - LABELS, jnp.ones(4))
    assert np.isfinite(total)
