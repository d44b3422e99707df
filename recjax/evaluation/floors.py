"""Floors: what counting alone reaches, the bar that every model has to clear.

Lives here: the counting floor (and its tuning on validation), popularity, item-kNN and EASE. Not
here: the counts themselves (`counts`), rank mathematics (`ranking`, `sparse_ranking`) and the click
floor (`calibration.PairFloor`). Called by the evaluate stage, and by fusion with counted scores.

Sequences and histories are int arrays of vocabulary ids, oldest first, and stream in batches.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.sparse as sp

from recjax.data.vocabulary import NUM_SPECIALS
from recjax.evaluation.counts import (
    CountingSettings,
    LogCounts,
    co_occurrence,
    count_log,
    counting_kernel,
    keep_largest,
    popularity_share,
)
from recjax.evaluation.ranking import flatten_histories, metrics_per_user, rank_scores, top_n
from recjax.evaluation.sparse_ranking import rank_sparse, top_n_sparse

POPULARITY_WEIGHT = 1e-9  # orders what counting has never seen, and breaks its ties


@dataclasses.dataclass(frozen=True)
class Examples:
    """A batch of evaluation examples: histories (B int arrays, oldest first), targets int [B]."""

    histories: Sequence[np.ndarray]
    targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class CountingGrid:
    """Settings tried for the counting floor; field names equal `config.evaluate.counting`."""

    windows: Sequence[int] = (1, 3, 5)
    backward: Sequence[float] = (0.0, 0.5, 1.0)
    item_exponents: Sequence[float] = (0.3, 0.5)
    decays: Sequence[float] = (0.5, 0.8)
    history: int = 10

    def points(self) -> list[CountingSettings]:
        """Lists all settings of the grid."""
        axes = (self.windows, self.backward, self.item_exponents, self.decays)
        return [CountingSettings(*point, self.history) for point in itertools.product(*axes)]


class Floor:
    """A scorer whose row is a sum of item-item rows of the history, plus a popularity share."""

    def __init__(self, kernel: sp.csr_array | None, base: np.ndarray, settings: dict) -> None:
        """Keeps the arrays.

        Args:
            kernel: CSR [V, V] or None; row i is what item i in the history adds.
            base: float64 [V], the score that every user gives.
            settings: what was chosen, for results.json.
        """
        self.kernel, self.base, self.settings = kernel, base, settings
        self.sorted_base = np.sort(base[NUM_SPECIALS:])

    def history_weights(self, histories: Sequence[np.ndarray]) -> sp.csr_array:
        """Returns CSR [B, V], the weight of each item of each history; 1 for distinct items."""
        shape = (len(histories), len(self.base))
        rows, items = flatten_histories(histories)
        weights = sp.csr_array((np.ones(len(rows)), (rows, items)), shape=shape)
        weights.sum_duplicates()
        weights.data[:] = 1.0
        return weights

    def sparse_scores(self, histories: Sequence[np.ndarray]) -> sp.csr_array:
        """Returns CSR float64 [B, V], the scores above `base`."""
        if self.kernel is None:
            return sp.csr_array((len(histories), len(self.base)))
        return sp.csr_array(self.history_weights(histories) @ self.kernel)

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns dense scores float64 [B, V] of one batch, specials -inf, nothing masked."""
        dense = self.sparse_scores(histories).toarray() + self.base
        dense[:, :NUM_SPECIALS] = -np.inf
        return dense

    def rank(self, examples: Examples, mask_history: bool) -> np.ndarray:
        """Returns the ranks float64 [B] of the targets; see `ranking.rank_scores`."""
        rows = self.sparse_scores(examples.histories)
        return rank_sparse(
            rows, self.base, self.sorted_base, examples.targets, examples.histories, mask_history
        )

    def top_n(self, histories: Sequence[np.ndarray], n: int, mask_history: bool) -> np.ndarray:
        """Returns the lists int32 [B, n]; see `ranking.top_n`."""
        rows = self.sparse_scores(histories)
        return top_n_sparse(rows, self.base, n, histories, mask_history)


class CountingFloor(Floor):
    """Items that stood after the user's last items; see `counts.counting_kernel`.

    The score of a history is the sum over its last items of decay^age times the item's row, plus
    1e-9 times the popularity share.
    """

    def __init__(self, counts: LogCounts, settings: CountingSettings) -> None:
        self.chosen = settings
        base = POPULARITY_WEIGHT * popularity_share(counts.popularity)
        super().__init__(counting_kernel(counts, settings), base, dataclasses.asdict(settings))

    def history_weights(self, histories: Sequence[np.ndarray]) -> sp.csr_array:
        """Returns CSR [B, V] of decay^age over the last items; repeats add up."""
        recent = [np.asarray(history)[-self.chosen.history :][::-1] for history in histories]
        ages = [np.flatnonzero(items >= NUM_SPECIALS) for items in recent]
        weights = self.chosen.decay ** np.concatenate([np.zeros(0), *ages])
        shape = (len(histories), len(self.base))
        return sp.csr_array((weights, flatten_histories(recent)), shape=shape)


class Popularity(Floor):
    """Every user gets the items with most training events."""

    def __init__(self, counts: LogCounts) -> None:
        super().__init__(None, popularity_share(counts.popularity), {})


class ItemKnn(Floor):
    """Items that share users with the user's items: cosine with shrinkage, top-k per item.

    Reference:
        Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms".
    """

    def __init__(
        self,
        sequences: Iterable[np.ndarray],
        vocab_size: int,
        neighbours: int = 100,
        shrinkage: float = 10.0,
    ) -> None:
        shared, users_of = co_occurrence(sequences, vocab_size)
        row_of = np.repeat(np.arange(vocab_size), np.diff(shared.indptr))
        shared.data /= np.sqrt(users_of[row_of] * users_of[shared.indices]) + shrinkage
        settings = {"neighbours": neighbours, "shrinkage": shrinkage}
        base = POPULARITY_WEIGHT * popularity_share(users_of)
        super().__init__(keep_largest(shared, neighbours), base, settings)


class Ease(Floor):
    """Linear item-item model in closed form; dense [V, V], so for small catalogues only.

    Reference:
        Steck (2019), "Embarrassingly shallow autoencoders for sparse data".
    """

    def __init__(
        self,
        sequences: Iterable[np.ndarray],
        vocab_size: int,
        ridge: float = 250.0,
        max_items: int = 10_000,
    ) -> None:
        if vocab_size - NUM_SPECIALS > max_items:
            raise ValueError(f"EASE needs a dense item-item array; {vocab_size} ids are too many")
        shared, users_of = co_occurrence(sequences, vocab_size)
        gram = shared.toarray()[NUM_SPECIALS:, NUM_SPECIALS:]
        gram[np.diag_indices(len(gram))] = users_of[NUM_SPECIALS:] + ridge
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self.weights = np.pad(weights, ((NUM_SPECIALS, 0), (NUM_SPECIALS, 0)))
        super().__init__(None, np.zeros(vocab_size), {"ridge": ridge})

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns dense scores float64 [B, V] of one batch, specials -inf, nothing masked."""
        seen = np.zeros((len(histories), len(self.weights)))
        seen[flatten_histories(histories)] = 1.0
        scores = seen @ self.weights
        scores[:, :NUM_SPECIALS] = -np.inf
        return scores

    def rank(self, examples: Examples, mask_history: bool) -> np.ndarray:
        """Returns the ranks float64 [B] of the targets; see `ranking.rank_scores`."""
        scores = self.scores(examples.histories)
        return rank_scores(scores, examples.targets, examples.histories, mask_history)

    def top_n(self, histories: Sequence[np.ndarray], n: int, mask_history: bool) -> np.ndarray:
        """Returns the lists int32 [B, n]; see `ranking.top_n`."""
        return top_n(self.scores(histories), n, histories, mask_history)


def rank_examples(floor: Floor, examples: Iterable[Examples], mask_history: bool) -> np.ndarray:
    """Ranks the targets of all batches.

    Args:
        floor: a fitted floor.
        examples: batches of a few hundred users.
        mask_history: whether items of the own history are taken out.

    Returns:
        float64 [N], in the order of the examples.
    """
    ranks = [floor.rank(batch, mask_history) for batch in examples]
    return np.concatenate([np.zeros(0), *ranks])


def tune_counting(
    counts: LogCounts, validation: Iterable[Examples], grid: CountingGrid, mask_history: bool
) -> tuple[CountingFloor, list[dict]]:
    """Chooses the counting floor by NDCG@10 on validation, the earlier point on a draw.

    Args:
        counts: counts of the training part with all windows of the grid.
        validation: batches that can be iterated again (a list, or a class with `__iter__`).
        grid: settings to try.
        mask_history: whether items of the own history are taken out.

    Returns:
        The floor and one row of settings and "ndcg_at_10" per trial.

    Raises:
        ValueError: if there is no validation example.
    """
    best, best_value, trials = None, -1.0, []
    for settings in grid.points():
        floor = CountingFloor(counts, settings)
        ranks = rank_examples(floor, validation, mask_history)
        if not len(ranks):
            raise ValueError("the counting floor is tuned on validation, and there is no example")
        value = float(metrics_per_user(ranks, (10,))["ndcg_at_10"].mean())
        trials.append({**floor.settings, "ndcg_at_10": value})
        if value > best_value:
            best, best_value = floor, value
    assert best is not None  # the grid has a point and metrics are >= 0
    return best, trials


def fit_floor(
    name: str,
    sequences: Callable[[], Iterable[np.ndarray]],
    vocab_size: int,
    validation: Iterable[Examples],
    grid: CountingGrid,
    mask_history: bool,
) -> Floor:
    """Fits one floor of `config.evaluate.floors` on the training part.

    Args:
        name: "counting", "popularity", "item_knn" or "ease".
        sequences: returns a fresh iterator over the training users' item ids.
        vocab_size: V, number of ids, specials included.
        validation: re-iterable batches, used by "counting" only.
        grid: settings tried by "counting".
        mask_history: the protocol of the evaluation.

    Returns:
        The fitted floor; its `settings` say what was chosen.

    Raises:
        ValueError: if the name is unknown.
    """
    if name == "counting":
        counts = count_log(sequences(), vocab_size, grid.windows)
        return tune_counting(counts, validation, grid, mask_history)[0]
    if name == "popularity":
        return Popularity(count_log(sequences(), vocab_size))
    if name == "item_knn":
        return ItemKnn(sequences(), vocab_size)
    if name == "ease":
        return Ease(sequences(), vocab_size)
    raise ValueError(f"unknown floor {name!r}; known: counting, popularity, item_knn, ease")
