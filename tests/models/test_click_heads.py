import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import CLICK_HEADS, ClickHead
from recjax.models.blocks import TransformerBlock
from recjax.models.click_heads import INTERESTS, BstHead, DienHead, DinHead, SimHead
from recjax.models.relative import Relations

BATCH = {
    "segments": jnp.array([[1, 1, 0], [0, 0, 0]]),
    "alike": jnp.array([[1, 0, 1], [0, 0, 0]], bool),
    "candidate_gap": jnp.array([1, 2]),
    "hour": jnp.array([3, 23]),
    "weekday": jnp.array([0, 6]),
    "position": jnp.array([4, 5]),
}


def make(head_type, dropout_rate=0.0):
    """A head, its variables, and a history, its summary and a candidate."""
    sizes = {"num_gap_bins": 8, "num_positions": 9, "search_len": 2}
    head = head_type((6, 4), **sizes, dropout_rate=dropout_rate, dtype=jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    vectors = (
        jax.random.normal(keys[0], (2, 3, 8)),
        jax.random.normal(keys[1], (2, 8)),
        jax.random.normal(keys[2], (2, 8)),
    )
    return head, nn.unbox({"params": head.init(keys[3], *vectors, BATCH)["params"]}), vectors


def attended(head, params, vectors, batch):
    """What the head reads out of the history, float [B, D], and the candidate as it sees it."""
    candidate = vectors[2]
    target = candidate - candidate.mean(1, keepdims=True)  # a fresh norm
    target = target / jnp.sqrt(candidate.var(1, keepdims=True) + 1e-6)
    _, seen = head.apply(
        {"params": params}, *vectors, batch, mutable=["intermediates"],
        capture_intermediates=lambda _, method: method == "_attend_to_history",
    )  # fmt: skip
    return seen["intermediates"]["_attend_to_history"][0], target


@pytest.fixture(scope="module")
def click_head():
    return make(ClickHead, 0.3)


@pytest.mark.parametrize("name", CLICK_HEADS)
def test_click_head_ignores_padding_and_stays_finite_without_history(name):
    head, variables, (hidden, pooled, candidate) = make(CLICK_HEADS[name])
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
    head, variables, vectors = make(DinHead)
    params, alone = variables["params"], BATCH | {"segments": jnp.array([[0, 1, 0], [0, 0, 0]])}
    read, target = attended(head, params, vectors, alone)
    event, target = vectors[0][0, 1], target[0]
    pair = jnp.concatenate([event, target, event - target, event * target])
    unit = jax.nn.relu(pair @ params["unit_in"]["kernel"])
    weight = (unit @ params["unit_out"]["kernel"])[0]
    np.testing.assert_allclose(read[0], weight * event, rtol=1e-4, atol=1e-5)


def test_sim_is_din_over_the_last_events_of_the_candidates_kind():
    head, variables, (_, *others) = make(SimHead)
    din = DinHead((6, 4), num_gap_bins=8, num_positions=9, dropout_rate=0.0, dtype=jnp.float32)
    hidden = jax.random.normal(jax.random.key(5), (2, 6, 8))
    batch = BATCH | {
        "segments": jnp.array([[1, 1, 1, 1, 1, 0], [0] * 6]),
        "alike": jnp.array([[1, 1, 0, 1, 0, 1], [1] * 6], bool),
    }
    seen = batch | {"segments": jnp.array([[0, 1, 0, 1, 0, 0], [0] * 6])}  # the last two alike
    found = head.apply(variables, hidden, *others, batch)
    np.testing.assert_allclose(found, din.apply(variables, hidden, *others, seen), atol=1e-5)


def test_dien_moves_its_interest_by_likeness_to_the_candidate():
    head, variables, vectors = make(DienHead)
    params = variables["params"]
    read, target = attended(head, params, vectors, BATCH)

    def gru(name, inputs, strength):
        gates = {key: params[f"{name}_{key}"] for key in ("input", "recurrent_kernel")}
        state, states = np.zeros(8), []
        for x, share in zip(np.asarray(inputs), strength, strict=True):
            given = x @ gates["input"]["kernel"] + gates["input"]["bias"]
            carried = state @ gates["recurrent_kernel"]
            reset, keep = (1 / (1 + np.exp(-(given + carried)[8 * g : 8 * g + 8])) for g in (0, 1))
            new = np.tanh(given[16:] + reset * carried[16:])
            state = state + share * (1 - keep) * (new - state)
            states.append(state)
        return np.stack(states)

    states = gru("extraction", vectors[0][0], np.ones(3))
    query = target[0] @ params["candidate_query"]["kernel"] + params["candidate_query"]["bias"]
    scores = np.exp(states[:2] @ query / np.sqrt(8))
    strength = np.append(scores / scores.sum(), 0)  # the third event is padding
    expected = gru("evolution", states, strength)[-1]
    np.testing.assert_allclose(read[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(read[1], np.zeros(8))
    _, sown = head.apply(variables, *vectors, BATCH, mutable=[INTERESTS])
    np.testing.assert_allclose(sown[INTERESTS]["states"][0][0], states, rtol=1e-4, atol=1e-5)


def test_bst_reads_the_candidate_as_one_more_event():
    head, variables, vectors = make(BstHead)
    params = variables["params"]
    read, target = attended(head, params, vectors, BATCH)
    both = jnp.concatenate(
        [vectors[0][:1, :2], (target + params["target_place"][None])[:1, None]], 1
    )
    block = TransformerBlock(head._block_config(3, 8))
    segments = Relations(jnp.ones((1, 3), jnp.int32), {})
    expected, _ = block.apply({"params": params["block"]}, both, 0, segments, None, False)
    np.testing.assert_allclose(read[0], expected[0, -1], rtol=1e-4, atol=1e-5)
