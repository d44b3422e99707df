import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from recjax.expansion.records import make_record
from recjax.expansion.similarity import (
    SimilarItems,
    SimilarityConfig,
    compare_vectors,
    count_co_visits,
    make_graph_vectors,
)


def lists_of(similar):
    """item -> {similar item: share of its draws}."""
    weights = np.diff(similar.ends, axis=1, prepend=0)
    return {
        item: {
            int(n): w / weights[item].sum()
            for n, w in zip(row, weights[item], strict=True)
            if w > 0
        }
        for item, row in enumerate(similar.neighbours)
        if weights[item].any()
    }


def count_by_hand(log, vocab_size, window):
    """Cosine of visits: pairs within the window, 1 / distance each, over the root of both."""
    pairs, visits = np.zeros((vocab_size, vocab_size)), np.zeros(vocab_size)
    for record in log:
        items = record["items"]
        for place, item in enumerate(items):
            visits[item] += 1
            for lag in range(1, min(window, place) + 1):
                pairs[item, items[place - lag]] += 1 / lag
                pairs[items[place - lag], item] += 1 / lag
    np.fill_diagonal(pairs, 0)
    return pairs / np.sqrt(np.maximum(np.outer(visits, visits), 1))


def test_co_visits_equal_the_cosine_by_hand(real_log, category_of_item):
    size = len(category_of_item)
    found = lists_of(count_co_visits(real_log, size, SimilarityConfig("co_visit", 4, 3)))
    cosine = count_by_hand(real_log, size, 3)
    assert set(found) == set(np.flatnonzero(cosine.any(axis=1)))
    for item, shares in found.items():
        best = np.sort(cosine[item])[::-1][:4]
        np.testing.assert_allclose(sorted(cosine[item][list(shares)])[::-1], best[best > 0])
        chosen = cosine[item][list(shares)]
        np.testing.assert_allclose(list(shares.values()), chosen / chosen.sum(), rtol=1e-5)


def test_co_visits_look_no_further_than_the_window():
    log = [make_record(np.arange(5, 9), np.zeros(4), np.arange(4), session_gap_seconds=9)]
    near = lists_of(count_co_visits(log, 9, SimilarityConfig("co_visit", 4, 1)))
    assert {item: set(row) for item, row in near.items()} == {5: {6}, 6: {5, 7}, 7: {6, 8}, 8: {7}}
    far = lists_of(count_co_visits(log, 9, SimilarityConfig("co_visit", 4, 3)))
    assert set(far[5]) == {6, 7, 8}


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_vectors_equal_the_cosine_by_hand_among_seen_items(form, monkeypatch):
    monkeypatch.setattr("recjax.expansion.similarity._BATCH", 7)  # several batches
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    vectors[11] = 0  # nothing is known of it
    seen = np.setdiff1d(np.arange(5, 40), [20, 21])
    found = lists_of(compare_vectors(form(vectors), seen, 5))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosine = unit @ unit.T
    assert set(found) == set(seen) - {11}
    for item, shares in found.items():
        others = seen[seen != item]
        best = others[np.argsort(-cosine[item, others])][:5]
        assert set(shares) == set(best[cosine[item, best] > 0])
        chosen = cosine[item][list(shares)]
        np.testing.assert_allclose(list(shares.values()), chosen / chosen.sum(), rtol=1e-4)


def test_fewer_items_than_asked_for_are_all_listed():
    found = lists_of(compare_vectors(np.ones((8, 2)), np.array([5, 6, 7]), 10))
    assert {item: set(row) for item, row in found.items()} == {5: {6, 7}, 6: {5, 7}, 7: {5, 6}}
    assert not lists_of(compare_vectors(np.ones((8, 2)), np.array([5]), 10))
    assert not lists_of(compare_vectors(np.ones((8, 2)), np.zeros(0, int), 10))


def test_graph_links_items_directly_and_by_what_they_share():
    names = np.array(["a", "b", "c", "d", "e"], object)
    facts = pa.table(
        {
            "head": ["a", "b", "c", "red", "x"],
            "relation": ["has", "has", "goes with", "of", "of"],
            "tail": ["red", "red", "d", "d", "y"],
        }
    )
    found = lists_of(compare_vectors(make_graph_vectors(facts, names), np.arange(5), 4))
    assert {item: set(row) for item, row in found.items()} == {
        0: {1, 3}, 1: {0, 3}, 2: {3}, 3: {0, 1, 2}
    }  # fmt: skip
    assert found[3][2] > found[3][0], "linked, and with rarer things in common"


def test_draws_follow_similarity():
    similar = SimilarItems(
        np.array([[1, 2, 0], [2, 0, 0], [0, 0, 0]], np.int32),
        np.cumsum([[0.6, 0.4, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], axis=1),
    )
    assert similar.has_any(np.array([0, 1, 2])).tolist() == [True, True, False]
    uniforms = np.linspace(0, 1, 1000, endpoint=False)
    drawn = similar.draw(np.zeros(1000, int), uniforms)
    assert np.bincount(drawn).tolist() == [0, 600, 400]
    assert set(similar.draw(np.ones(1000, int), uniforms)) == {2}
    assert similar.draw(np.array([0]), np.array([np.nextafter(1, 0)])) == [2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("brand", 1, 1), "similarity.by = 'brand' is unknown; known: co_visit, vectors, graph"),
        (("graph", 0, 1), "similarity.num_items is 0; give at least 1"),
        (("co_visit", 1, 0), "similarity.window is 0; give at least 1"),
    ],
)
def test_bad_settings_of_similarity_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        SimilarityConfig(*values)
