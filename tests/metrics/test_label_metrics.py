"""Metrics of yes-or-no labels against scikit-learn: weights, ties, padding, numpy and jax alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as peer

from recjax import metrics

N = 400


@pytest.fixture(params=["numpy", "jax"])
def rows(request):
    """Scores with ties, labels, weights with padding, and users; float64 in numpy."""
    numbers = np.random.default_rng(0)
    scores = np.round(numbers.normal(size=N), 1)
    labels = (numbers.random(N) < 1 / (1 + np.exp(-scores))).astype(float)
    weights = numbers.integers(0, 4, size=N).astype(float)
    groups = numbers.integers(0, 30, size=N)
    if request.param == "jax":
        scores, labels, weights = (jnp.asarray(x, jnp.float32) for x in (scores, labels, weights))
        return scores, labels, weights, jnp.asarray(groups)
    return scores, labels, weights, groups


def on_host(rows):
    return [np.asarray(part, np.float64) for part in rows]


def test_average_precision(rows):
    scores, labels, weights, _ = rows
    found = metrics.average_precision(scores, labels, weights)
    x, y, w, _ = on_host(rows)
    assert float(found) == pytest.approx(peer.average_precision_score(y, x, sample_weight=w), 1e-5)
    plain = metrics.average_precision(scores, labels)
    assert float(plain) == pytest.approx(peer.average_precision_score(y, x), 1e-5)


def test_grouped_auc_is_the_mean_of_the_groups_own(rows):
    total, weight = metrics.grouped_auc(rows[0], rows[1], rows[3], rows[2])
    x, y, w, g = on_host(rows)
    own, whole = [], []
    for group in np.unique(g):
        here = (g == group) & (w > 0)
        if len(np.unique(y[here])) == 2:
            own.append(peer.roc_auc_score(y[here], x[here], sample_weight=w[here]))
            whole.append(w[here].sum())
    assert 5 < len(own) < 31
    assert float(weight) == pytest.approx(sum(whole), 1e-6)
    assert float(total / weight) == pytest.approx(np.average(own, weights=whole), 1e-4)


def test_groups_of_disjoint_parts_add_up(rows):
    scores, labels, weights, groups = rows
    whole = metrics.grouped_auc(scores, labels, groups, weights)
    parts = [
        metrics.grouped_auc(scores, labels, groups, weights * (groups % 2 == part))
        for part in (0, 1)
    ]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-4)


def test_normalised_entropy_is_one_for_the_mean_rate(rows):
    scores, labels, weights, _ = rows
    x, y, w, _ = on_host(rows)
    rate = np.average(y, weights=w)
    base = peer.log_loss(y, np.full(N, rate), sample_weight=w)
    model = peer.log_loss(y, 1 / (1 + np.exp(-x)), sample_weight=w)
    found = metrics.normalised_entropy(scores, labels, weights)
    assert float(found) == pytest.approx(model / base, 1e-5)
    constant = scores * 0 + float(np.log(rate / (1 - rate)))
    assert float(metrics.normalised_entropy(constant, labels, weights)) == pytest.approx(1, 1e-5)


@pytest.mark.parametrize("share", [0.1, 0.37, 1.0])
def test_top_share_is_the_mean_over_orders_of_equal_scores(rows, share):
    scores, labels, _, _ = rows
    x, y, _, _ = on_host(rows)
    numbers, found = np.random.default_rng(1), []
    for _ in range(400):
        order = np.lexsort((numbers.random(N), -x))
        upto = np.interp(share * N, np.arange(N + 1), np.concatenate([[0], np.cumsum(y[order])]))
        found.append(upto)
    precision, recall, lift = metrics.top_share(scores, labels, share=share)
    mean = np.mean(found)
    assert float(precision) == pytest.approx(mean / (share * N), rel=0.02)
    assert float(recall) == pytest.approx(mean / y.sum(), rel=0.02)
    assert float(lift) == pytest.approx(mean / (share * N) / y.mean(), rel=0.02)


def test_integer_weights_count_rows_that_often(rows):
    scores, labels, weights, groups = rows
    repeat = np.repeat(np.arange(N), np.asarray(weights).astype(int))
    more = [part[repeat] for part in (scores, labels, groups)]
    np.testing.assert_allclose(
        metrics.top_share(scores, labels, weights, share=0.2),
        metrics.top_share(more[0], more[1], share=0.2),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        metrics.grouped_auc(scores, labels, groups, weights), metrics.grouped_auc(*more), rtol=1e-4
    )


def test_histograms_add_and_give_the_auc_within_their_bound(rows):
    scores, labels, weights, _ = rows
    whole = metrics.score_histogram(scores, labels, weights, num_bins=512)
    half = N // 2
    parts = [
        metrics.score_histogram(scores[s], labels[s], weights[s], num_bins=512)
        for s in (slice(None, half), slice(half, None))
    ]
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-6)
    x, y, w, _ = on_host(rows)
    exact = peer.roc_auc_score(y, x, sample_weight=w)
    area, bound = metrics.auc_of_histogram(whole)
    assert abs(float(area) - exact) <= float(bound) + 1e-5 and float(bound) < 0.03
    coarse = metrics.score_histogram(scores, labels, weights, num_bins=16)
    assert float(metrics.auc_of_histogram(coarse)[1]) > float(bound)


def test_one_class_has_no_curve(rows):
    scores, labels, weights, groups = rows
    none, ones = labels * 0, weights * 0 + 1
    assert np.isnan(float(metrics.average_precision(scores, none)))
    assert np.isnan(float(metrics.normalised_entropy(scores, none, ones)))
    assert np.isnan(float(metrics.top_share(scores, none, share=0.5)[2]))
    assert float(metrics.grouped_auc(scores, none, groups, ones)[1]) == 0
    empty = metrics.score_histogram(scores, none, ones, num_bins=8)
    assert np.isnan(float(metrics.auc_of_histogram(empty)[0]))
    with pytest.raises(ValueError, match="share must be in"):
        metrics.top_share(scores, labels, share=0.0)


def test_metrics_can_be_compiled():
    scores = jnp.asarray([0.3, -1.0, 2.0, 0.3])
    labels, groups = jnp.asarray([1.0, 0, 1, 0]), jnp.asarray([0, 0, 1, 1])

    @jax.jit
    def run(scores):
        histogram = metrics.score_histogram(scores, labels, jnp.ones(4), num_bins=8)
        return (
            metrics.average_precision(scores, labels),
            metrics.grouped_auc(scores, labels, groups)[0],
            metrics.top_share(scores, labels, share=0.5)[0],
            metrics.auc_of_histogram(histogram)[0],
        )

    np.testing.assert_allclose(run(scores)[1], 4.0)
