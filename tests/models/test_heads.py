import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models import ClickHead

BATCH = {
    "segments": jnp.array([[1, 1, 0], [0, 0, 0]]),
    "candidate_gap": jnp.array([1, 2]),
    "hour": jnp.array([3, 23]),
    "weekday": jnp.array([0, 6]),
    "position": jnp.array([4, 5]),
}


@pytest.fixture(scope="module")
def click_head():
    head = ClickHead((6, 4), num_gap_bins=8, num_positions=9, dropout_rate=0.3, dtype=jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    vectors = (
        jax.random.normal(keys[0], (2, 3, 8)),
        jax.random.normal(keys[1], (2, 8)),
        jax.random.normal(keys[2], (2, 8)),
    )
    return head, jax.jit(head.init)(keys[3], *vectors, BATCH), vectors


def test_click_head_ignores_padding_and_stays_finite_without_history(click_head):
    head, variables, (hidden, pooled, candidate) = click_head
    logits = head.apply(variables, hidden, pooled, candidate, BATCH)
    assert logits.shape == (2,) and np.isfinite(logits).all()
    spoiled = hidden.at[0, 2].set(100.0).at[1].set(-50.0)
    again = head.apply(variables, spoiled, pooled, candidate, BATCH)
    np.testing.assert_allclose(again, logits, atol=1e-5)


@pytest.mark.parametrize("name", ["candidate_gap", "hour", "weekday", "position"])
def test_click_head_sees_each_context_feature(click_head, name):
    head, variables, vectors = click_head
    changed = BATCH | {name: BATCH[name] - jnp.array([1, 1]) * (BATCH[name] > 0)}
    one, two = (head.apply(variables, *vectors, batch) for batch in (BATCH, changed))
    assert abs(float(one[1] - two[1])) > 1e-6


def test_click_head_drops_only_with_keys(click_head):
    head, variables, vectors = click_head
    plain = head.apply(variables, *vectors, BATCH)
    keys = jax.random.split(jax.random.key(2), 2)
    assert not np.allclose(head.apply(variables, *vectors, BATCH, keys), plain)
