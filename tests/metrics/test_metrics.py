import functools
import re

import ir_measures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, nDCG
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as Spec
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from recjax import metrics

NUM_ROWS = 21  # 5 specials and 16 items
KINDS = pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])


def _catalogue(seed=0, batch=8):
    rng = np.random.default_rng(seed)
    # Small integers: products are exact and ties are many.
    queries = rng.integers(-2, 3, (batch, 3)).astype(np.float32)
    table = rng.integers(-1, 2, (NUM_ROWS, 3)).astype(np.float32)
    bias = rng.integers(0, 2, NUM_ROWS).astype(np.float32)
    history = rng.integers(5, NUM_ROWS, (batch, 4)) * (rng.random((batch, 4)) < 0.7)
    target = rng.integers(5, NUM_ROWS, batch)
    return queries, table, bias, target.astype(np.int32), history.astype(np.int32)


def _brute_force(queries, table, bias, target, history, top_n, mask_history):
    scores = queries @ table.T + bias
    ranks, top = [], []
    for b, row in enumerate(scores):
        gone = set(history[b]) if mask_history else set()
        ranked = [i for i in range(5, NUM_ROWS) if i not in gone]
        if target[b] in ranked:
            others = [row[i] for i in ranked if i != target[b]]
            own = row[target[b]]
            ranks.append(sum(s > own for s in others) + sum(s == own for s in others) / 2)
        else:
            ranks.append(NUM_ROWS - 5)
        best = sorted(ranked, key=lambda i: (-row[i], i))[:top_n]
        top.append(best + [0] * (top_n - len(best)))
    return np.array(ranks), np.array(top)


@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize(("item_chunk", "top_n"), [(4, 6), (10, 3), (100, 16)])
def test_ranks_and_top_items_equal_brute_force(item_chunk, top_n, mask_history):
    inputs = _catalogue()
    ranks, items, scores = metrics.ranks_and_top_items(
        *map(jnp.asarray, inputs), item_chunk=item_chunk, top_n=top_n, mask_history=mask_history
    )
    expected_ranks, expected_items = _brute_force(*inputs, top_n, mask_history)
    np.testing.assert_array_equal(ranks, expected_ranks)
    np.testing.assert_array_equal(items, expected_items)
    exact = np.take_along_axis(inputs[0] @ inputs[1].T + inputs[2], expected_items, axis=1)
    np.testing.assert_array_equal(scores, np.where(expected_items > 0, exact, -np.inf))


def _rank_one(score_of_items, target, history=(0,), mask_history=False):
    table = jnp.asarray([9.0] * 5 + list(score_of_items))[:, None]
    return metrics.ranks_and_top_items(
        jnp.ones((1, 1)), table, None, jnp.array([target]), jnp.array([history]),
        item_chunk=3, top_n=2, mask_history=mask_history,
    )  # fmt: skip


def test_a_constant_model_gets_the_middle_rank():
    ranks, items, _ = _rank_one([1.0] * 5, target=7)
    assert ranks.tolist() == [2.0] and items.tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("scores", "target", "history", "why"),
    [
        ([3.0, 2.0, 1.0], 1, (0,), "the target is [UNK]"),
        ([3.0, 2.0, 1.0], 5, (5,), "the target is masked with the history"),
        ([np.nan, 2.0, 1.0], 5, (0,), "its score is not a number"),
        ([-np.inf, 2.0, 1.0], 5, (0,), "its score is not finite"),
    ],
)
def test_misses_get_the_worst_rank(scores, target, history, why):
    ranks, items, _ = _rank_one(scores, target, history, mask_history=True)
    assert ranks.tolist() == [3.0], why
    assert items.min() >= 5


def test_a_repeated_target_counts_when_history_is_not_masked():
    ranks, items, _ = _rank_one([3.0, 2.0, 1.0], target=5, history=(5,))
    assert ranks.tolist() == [0.0] and items.tolist() == [[5, 6]]


def test_items_beyond_those_left_are_padding():
    _, items, scores = _rank_one([3.0, 2.0, 1.0], target=7, history=(5, 6), mask_history=True)
    assert items.tolist() == [[7, 0]] and np.isneginf(scores[0, 1])


def test_ranking_over_a_mesh_is_the_same_and_gathers_no_scores():
    inputs = [jnp.asarray(value) for value in _catalogue(batch=32)]
    inputs[1] = jnp.tile(inputs[1], (50, 1))
    inputs[2] = jnp.tile(inputs[2], 50)
    rank = jax.jit(
        functools.partial(metrics.ranks_and_top_items, item_chunk=512, top_n=3, mask_history=True)
    )
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = [Spec("data"), Spec(), Spec(), Spec("data"), Spec("data")]
    placed = [
        jax.device_put(value, NamedSharding(mesh, spec))
        for value, spec in zip(inputs, specs, strict=True)
    ]
    compiled = rank.lower(*placed).compile()
    gathered = re.findall(r"\[32,(\d+)\]\S* all-gather", compiled.as_text())
    assert max(map(int, gathered)) < 60  # of 350 scores in a chunk: group maxima and a few groups
    jax.tree.map(np.testing.assert_array_equal, compiled(*placed), rank(*inputs))


def test_ranking_names_wrong_sizes():
    inputs = [jnp.asarray(value) for value in _catalogue()]
    for sizes in ({"item_chunk": 0, "top_n": 1}, {"item_chunk": 4, "top_n": 17}):
        with pytest.raises(ValueError, match="top_n"):
            metrics.ranks_and_top_items(*inputs, **sizes, mask_history=False)


@KINDS
def test_rank_of_target_gives_half_ranks_and_honours_the_mask(kind):
    scores = kind(np.array([[1.0, 3.0, 1.0, 0.0], [2.0, 2.0, 2.0, 5.0], [1.0, 0.0, 0.0, 0.0]]))
    mask = kind(np.array([[True] * 4, [True, True, True, False], [False, True, True, True]]))
    target = kind(np.array([0, 1, 0]))
    assert metrics.rank_of_target(scores, target).tolist() == [1.5, 2.0, 0.0]
    assert metrics.rank_of_target(scores, target, mask).tolist() == [1.5, 1.0, 4.0]


@KINDS
def test_metrics_of_ranks_have_their_hand_values(kind):
    ranks = kind(np.array([0.0, 0.5, 2.0, 9.5, 100.0], np.float32))
    assert metrics.hit_rate_at(ranks, 2).tolist() == [1, 1, 0, 0, 0]
    assert metrics.recall_at(ranks, 10).tolist() == [1, 1, 1, 1, 0]
    np.testing.assert_allclose(metrics.precision_at(ranks, 4), [0.25, 0.25, 0.25, 0, 0])
    expected = [1, 1 / np.log2(2.5), 0.5, 1 / np.log2(11.5), 0]
    np.testing.assert_allclose(metrics.ndcg_at(ranks, 10), expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.mrr(ranks, 3), [1, 1 / 1.5, 1 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(metrics.mrr(ranks)[-1], 1 / 101, rtol=1e-6)
    assert isinstance(metrics.ndcg_at(ranks, 10), np.ndarray) == (kind is np.asarray)


def test_metrics_of_ranks_equal_ir_measures():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(30.0), (20, 1)), axis=1)
    target = rng.integers(0, 30, 20)
    ranks = metrics.rank_of_target(scores, target)
    qrels = [ir_measures.Qrel(str(q), str(t), 1) for q, t in enumerate(target)]
    run = [ir_measures.ScoredDoc(str(q), str(d), scores[q, d]) for q, d in np.ndindex(20, 30)]
    peer = ir_measures.calc_aggregate([nDCG @ 10, RR, P @ 10, R @ 10, AP], qrels, run)
    ours = {
        nDCG @ 10: metrics.ndcg_at(ranks, 10),
        RR: metrics.mrr(ranks),
        P @ 10: metrics.precision_at(ranks, 10),
        R @ 10: metrics.recall_at(ranks, 10),
        AP: metrics.mrr(ranks),  # with one relevant item
    }
    for measure, values in ours.items():
        np.testing.assert_allclose(values.mean(), peer[measure], rtol=1e-6, err_msg=str(measure))


@KINDS
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_equals_scikit_learn_with_ties_and_weights(kind, weighted):
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 20, 500).astype(np.float32)
    labels = (rng.random(500) < 0.05 + scores / 40).astype(np.float32)
    weights = rng.random(500).astype(np.float32) if weighted else None
    area = metrics.auc(kind(scores), kind(labels), None if weights is None else kind(weights))
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(area, expected, rtol=2e-6)


@KINDS
def test_auc_ignores_padding_and_is_nan_with_one_class(kind):
    scores, labels = kind(np.array([0.1, 0.9, 0.5])), kind(np.array([0.0, 1.0, 1.0]))
    assert metrics.auc(scores, labels, kind(np.array([1.0, 1.0, 0.0]))) == 1
    assert np.isnan(metrics.auc(scores, labels, kind(np.array([0.0, 1.0, 1.0]))))


@KINDS
def test_log_loss_equals_scikit_learn_and_is_finite_when_surely_wrong(kind):
    logits = np.array([-1.0, 0.3, 2.0], np.float32)
    labels, weights = np.array([0.0, 1.0, 0.0], np.float32), np.array([1.0, 2.0, 0.5], np.float32)
    total, weight = metrics.log_loss(*map(kind, (logits, labels, weights)))
    expected = sklearn_log_loss(labels, 1 / (1 + np.exp(-logits)), sample_weight=weights)
    np.testing.assert_allclose(total / weight, expected, rtol=1e-5)
    total, _ = metrics.log_loss(*map(kind, (logits * 1e4, 1 - labels, weights)))
    assert np.isfinite(total)


@KINDS
def test_calibration_has_its_hand_values(kind):
    inputs = [
        kind(np.array(values, np.float32))
        for values in ([0.05, 0.15, 0.15, 1.0, 0.5], [0, 1, 0, 1, 1], [1, 1, 1, 2, 0])
    ]
    weight, probability, label = metrics.calibration_bins(*inputs, num_bins=10)
    assert weight.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(label, [0, 1, 0, 0, 0, 0, 0, 0, 0, 2])
    error = metrics.expected_calibration_error(weight, probability, label)
    np.testing.assert_allclose(error, (0.05 + (1 - 0.3) + 0) / 5, rtol=1e-5)


@KINDS
def test_weighted_sum_leaves_padding_out(kind):
    total, weight = metrics.weighted_sum(kind(np.array([2.0, np.nan])), kind(np.array([3.0, 0.0])))
    assert (float(total), float(weight)) == (6.0, 3.0)
