"""Floors against direct loops on a toy, and against the published counting floor of Beauty."""

import gzip
import pathlib

import numpy as np
import pytest

from recjax.evaluation import counts, floors, ranking

BEAUTY = pathlib.Path(__file__).resolve().parents[3] / "shared/data/amazon_beauty/Beauty.txt.gz"
WIDTH = 17


def _toy(num_users: int = 40, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, WIDTH, rng.integers(1, 9)).astype(np.int32) for _ in range(num_users)]


def _direct_scores(
    sequences: list[np.ndarray], history: np.ndarray, settings: counts.CountingSettings
) -> np.ndarray:
    """The definition of the counting floor, word by word, in plain loops."""
    pairs, events = np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH)
    for sequence in sequences:
        for place, item in enumerate(sequence):
            events[item] += 1
            for k in range(1, settings.window + 1):
                if place + k < len(sequence):
                    pairs[item, sequence[place + k]] += 1 / k
    pairs = pairs + settings.backward * pairs.T
    scores = 1e-9 * events / events.sum()
    for age, item in enumerate(history[::-1][: settings.history]):
        row = pairs[item] / max(events[item], 1) ** 0.5
        scores = scores + settings.decay**age * row / np.maximum(events, 1) ** (
            settings.item_exponent
        )
    return scores


@pytest.mark.parametrize("mask_history", [True, False])
@pytest.mark.parametrize("backward", [0.0, 0.5])
def test_counting_floor_equals_the_definition(backward: float, mask_history: bool) -> None:
    settings = counts.CountingSettings(3, backward, 0.3, 0.5, history=4)
    sequences, histories = _toy(), _toy(30, seed=1) + [np.zeros(0, np.int32)]
    targets = np.random.default_rng(2).integers(4, WIDTH + 1, len(histories))
    floor = floors.CountingFloor(counts.count_log(sequences, WIDTH, (1, 3)), settings)
    direct = np.stack([_direct_scores(sequences, h, settings) for h in histories])
    np.testing.assert_allclose(floor.scores(histories)[:, 5:], direct[:, 5:], rtol=1e-12)
    ours = floor.rank(floors.Examples(histories, targets), mask_history)
    theirs = ranking.rank_scores(floor.scores(histories), targets, histories, mask_history)
    np.testing.assert_array_equal(ours, theirs)
    lists = floor.top_n(histories, 6, mask_history)
    expected = ranking.top_n(floor.scores(histories), 6, histories, mask_history)
    np.testing.assert_array_equal(lists, expected)


def test_sparse_rank_gives_ties_half() -> None:
    floor = floors.Popularity(counts.count_log([np.array([5, 5, 6, 7, 8])], 10))
    targets = np.array([5, 6, 7, 9, 1])
    ranks = floor.rank(floors.Examples([np.zeros(0, np.int32)] * 5, targets), True)
    assert ranks.tolist() == [0.0, 2.0, 2.0, 4.0, 10.0]


def test_counts_skip_unknown_items_but_keep_their_place() -> None:
    found = counts.count_log([np.array([5, 1, 6])], 7, (1, 2))
    assert found.transitions[1].nnz == 0
    assert found.transitions[2].toarray()[5, 6] == 0.5
    assert found.popularity.tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_counts_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counts.count_log(_toy(), WIDTH, (3,)).transitions[3].toarray()
    shared = counts.co_occurrence(_toy(), WIDTH)[0].toarray()
    monkeypatch.setattr(counts, "CHUNK_USERS", 7)
    np.testing.assert_allclose(
        counts.count_log(_toy(), WIDTH, (3,)).transitions[3].toarray(), whole
    )
    np.testing.assert_allclose(counts.co_occurrence(_toy(), WIDTH)[0].toarray(), shared)


def test_item_knn_equals_direct_cosine() -> None:
    sequences = _toy()
    touched = np.zeros((len(sequences), WIDTH))
    for user, sequence in enumerate(sequences):
        touched[user, sequence] = 1
    shared = touched.T @ touched
    norms = np.sqrt(np.outer(np.diag(shared), np.diag(shared)))
    similar = shared / (norms + 10.0)
    np.fill_diagonal(similar, 0.0)
    floor = floors.ItemKnn(sequences, WIDTH, neighbours=WIDTH, shrinkage=10.0)
    np.testing.assert_allclose(floor.kernel.toarray(), similar, atol=1e-12)
    small = floors.ItemKnn(sequences, WIDTH, neighbours=2).kernel
    assert np.diff(small.indptr).max() == 2
    np.testing.assert_allclose(small.max(axis=1).toarray().ravel(), similar.max(axis=1))


def test_ease_solves_the_ridge_problem_with_zero_diagonal() -> None:
    sequences = _toy(60)
    floor = floors.Ease(sequences, WIDTH, ridge=3.0)
    touched = np.zeros((60, WIDTH - 5))
    for user, sequence in enumerate(sequences):
        touched[user, sequence - 5] = 1
    for item in range(WIDTH - 5):  # each column is a ridge regression on the other items
        others = np.delete(np.arange(WIDTH - 5), item)
        design = touched[:, others]
        gram = design.T @ design + 3.0 * np.eye(len(others))
        column = np.linalg.solve(gram, design.T @ touched[:, item])
        np.testing.assert_allclose(floor.weights[5 + others, 5 + item], column, atol=1e-9)
    assert np.all(np.diag(floor.weights) == 0)


def test_ease_refuses_a_large_catalogue() -> None:
    with pytest.raises(ValueError, match="too many"):
        floors.Ease(_toy(), WIDTH, max_items=3)


def test_tuning_takes_the_best_point_of_validation() -> None:
    sequences = _toy(60)
    histories = [sequence[:-1] for sequence in sequences if len(sequence) > 1]
    targets = np.array([sequence[-1] for sequence in sequences if len(sequence) > 1])
    grid = floors.CountingGrid((1, 3), (0.0, 1.0), (0.3,), (0.5, 0.8))
    found = counts.count_log(sequences, WIDTH, grid.windows)
    examples = [floors.Examples(histories, targets)]
    floor, trials = floors.tune_counting(found, examples, grid, mask_history=False)
    assert len(trials) == 8
    best = max(trials, key=lambda trial: trial["ndcg_at_10"])
    assert {**floor.settings, "ndcg_at_10": best["ndcg_at_10"]} == best


def test_fit_floor_knows_its_names() -> None:
    grid = floors.CountingGrid((1,), (0.0,), (0.3,), (0.5,))
    examples = [floors.Examples([np.array([5])], np.array([6]))]
    for name in ("counting", "popularity", "item_knn", "ease"):
        floor = floors.fit_floor(name, _toy, WIDTH, examples, grid, True)
        assert np.isfinite(floors.rank_examples(floor, examples, True)).all()
    with pytest.raises(ValueError, match="unknown floor 'knn'"):
        floors.fit_floor("knn", _toy, WIDTH, examples, grid, True)


def _beauty() -> tuple[list[np.ndarray], int]:
    if not BEAUTY.exists():
        pytest.skip(f"{BEAUTY} is not here; the data set is never part of the repository")
    with gzip.open(BEAUTY, "rt") as lines:
        sequences = [np.array(line.split()[1:], np.int32) + 4 for line in lines]
    return sequences, int(max(sequence.max() for sequence in sequences)) + 1


def _batches(sequences: list[np.ndarray], held_out: int) -> list[floors.Examples]:
    return [
        floors.Examples(
            [s[: len(s) - held_out] for s in sequences[start : start + 512]],
            np.array([s[-held_out] for s in sequences[start : start + 512]]),
        )
        for start in range(0, len(sequences), 512)
    ]


@pytest.mark.parametrize(
    ("left_out", "hr", "ndcg"), [(2, 0.0815, 0.0516), (1, 0.0914, 0.0588)], ids=["train", "valid"]
)
def test_counting_floor_on_beauty_equals_the_published_one(
    left_out: int, hr: float, ndcg: float
) -> None:
    sequences, vocab_size = _beauty()
    found = counts.count_log((s[:-left_out] for s in sequences), vocab_size, (5,))
    floor = floors.CountingFloor(found, counts.CountingSettings(5, 0.5, 0.3, 0.5))
    ranks = floors.rank_examples(floor, _batches(sequences, 1), mask_history=True)
    metrics = ranking.metrics_per_user(ranks, (10,))
    assert metrics["hr_at_10"].mean() == pytest.approx(hr, abs=5e-4)
    assert metrics["ndcg_at_10"].mean() == pytest.approx(ndcg, abs=5e-4)


@pytest.mark.slow
def test_tuning_on_beauty_chooses_the_published_setting() -> None:
    sequences, vocab_size = _beauty()
    grid = floors.CountingGrid()
    found = counts.count_log((s[:-2] for s in sequences), vocab_size, grid.windows)
    floor, trials = floors.tune_counting(found, _batches(sequences, 2), grid, mask_history=True)
    assert len(trials) == 36
    chosen = {"window": 5, "backward": 0.5, "item_exponent": 0.3, "decay": 0.5, "history": 10}
    assert floor.settings == chosen
