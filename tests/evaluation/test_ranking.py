"""Ranks and metrics against hand values, a brute force and ir-measures."""

import ir_measures
import numpy as np
import pytest

from recjax.evaluation import ranking


def test_rank_counts_ties_half() -> None:
    scores = np.array([[9, 9, 9, 9, 9, 0.5, 0.9, 0.5, 0.5, 0.1]])
    assert ranking.rank_scores(scores, np.array([7]), None, False).tolist() == [2.0]
    assert ranking.rank_scores(scores, np.array([6]), None, False).tolist() == [0.0]
    assert ranking.rank_scores(scores, np.array([9]), None, False).tolist() == [4.0]


def test_rank_all_equal_is_the_middle() -> None:
    ranks = ranking.rank_scores(np.zeros((1, 15)), np.array([9]), None, False)
    assert ranks.tolist() == [4.5]  # ten items, nine others


def test_rank_masks_own_history_only_when_asked() -> None:
    scores = np.array([[0, 0, 0, 0, 0, 3.0, 2.0, 1.0], [0, 0, 0, 0, 0, 3.0, 2.0, 1.0]])
    histories = [np.array([5, 5, 1]), np.array([], np.int32)]
    targets = np.array([7, 7])
    assert ranking.rank_scores(scores, targets, histories, True).tolist() == [1.0, 2.0]
    assert ranking.rank_scores(scores, targets, histories, False).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("target", [0, 1, 99, 5])
def test_rank_of_no_item_or_masked_target_is_a_miss(target: int) -> None:
    scores = np.ones((1, 8))
    rank = ranking.rank_scores(scores, np.array([target]), [np.array([5])], True)
    assert rank.tolist() == [8.0]


def test_rank_refuses_nan() -> None:
    scores = np.zeros((2, 8))
    scores[1, 6] = np.nan
    with pytest.raises(ValueError, match="row 1 hold NaN"):
        ranking.rank_scores(scores, np.array([5, 5]), None, False)


def test_rank_needs_histories_to_mask() -> None:
    with pytest.raises(ValueError, match="one history per row"):
        ranking.rank_scores(np.zeros((1, 8)), np.array([5]), None, True)


def test_top_n_skips_specials_and_history_and_pads() -> None:
    scores = np.array([[9, 9, 9, 9, 9, 0.1, 0.9, 0.9]])
    assert ranking.top_n(scores, 2, None, False).tolist() == [[6, 7]]
    assert ranking.top_n(scores, 3, [np.array([6])], True).tolist() == [[7, 5, 0]]


def test_metrics_hand_values() -> None:
    metrics = ranking.metrics_per_user(np.array([[0.0, 1.0], [4.0, 4.5]]), (5,))
    np.testing.assert_allclose(metrics["ndcg_at_5"][0], [1.0, 1 / np.log2(3)])
    np.testing.assert_allclose(metrics["mrr_at_5"], [[1.0, 0.5], [0.2, 1 / 5.5]])
    assert metrics["hr_at_5"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    np.testing.assert_allclose(metrics["precision_at_5"][0], [0.2, 0.2])
    assert ranking.metrics_per_user(np.array([5.0]), (5,))["hr_at_5"].tolist() == [0.0]


def test_metrics_agree_with_ir_measures() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(45.0), (30, 1)), axis=1)  # no ties
    targets = rng.integers(5, 45, 30)
    histories = [np.setdiff1d(rng.integers(5, 45, 4), [target]) for target in targets]
    ours = ranking.metrics_per_user(ranking.rank_scores(scores, targets, histories, True), (10,))
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(scores[user, item]))
        for user in range(30)
        for item in range(5, 45)
        if item not in histories[user]
    ]
    qrels = [ir_measures.Qrel(str(user), str(item), 1) for user, item in enumerate(targets)]
    names = {
        "ndcg_at_10": ir_measures.nDCG @ 10,
        "hr_at_10": ir_measures.Success @ 10,
        "precision_at_10": ir_measures.P @ 10,
        "recall_at_10": ir_measures.R @ 10,
        "mrr_at_10": ir_measures.RR @ 10,
    }
    theirs = ir_measures.calc_aggregate(names.values(), qrels, run)
    for name, measure in names.items():
        assert ours[name].mean() == pytest.approx(theirs[measure], abs=1e-9), name
