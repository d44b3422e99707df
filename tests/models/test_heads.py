import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models import ClickHead
from recjax.models.heads import DinHead

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


def test_din_weighs_each_event_by_its_own_pair_with_the_candidate():
    head = DinHead((6,), num_gap_bins=8, num_positions=9, dropout_rate=0.0, dtype=jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, pooled, candidate = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys[:3], ((2, 3, 8), (2, 8), (2, 8)), strict=True)
    )
    params = head.init(keys[3], hidden, pooled, candidate, BATCH)["params"]
    target, event = (candidate - candidate.mean(1)[:, None]), hidden[0, 1]
    target = (target / jnp.sqrt(candidate.var(1) + 1e-6)[:, None])[0]  # the norm before the unit
    pair = jnp.concatenate([event, target, event - target, event * target])
    unit = jax.nn.relu(pair @ params["unit_in"]["kernel"].value)
    weight = (unit @ params["unit_out"]["kernel"].value)[0]
    alone = BATCH | {"segments": jnp.array([[0, 1, 0], [0, 0, 0]])}
    _, seen = head.apply(
        {"params": params}, hidden, pooled, candidate, alone, capture_intermediates=True,
        mutable=["intermediates"],
    )  # fmt: skip
    first = seen["intermediates"]["tower_0"]["__call__"][0][0]
    context = [
        params[f"{name}_table"]["table"].value[alone[name][0]]
        for name in ("candidate_gap", "hour", "weekday", "position")
    ]
    parts = (weight * event, pooled[0], target, weight * event * target, pooled[0] * target)
    expected = jnp.concatenate([*parts, *context]) @ params["tower_0"]["kernel"].value
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)
