"""Lists of the most similar items: by visits together, by item vectors, by the knowledge graph.

Both ends of a list have events in the training part, so that no edit can bring in an item that was
never seen. Not here: the item vectors (features stage), what is done with the lists (`edit`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recjax import hmm
from recjax.expansion.records import RecordSource, batched, lengths_of

if TYPE_CHECKING:
    from recjax.expansion.strategy import ExpansionData

SIMILAR_BY = ("co_visit", "vectors", "graph")
_BATCH = 1024  # users counted, or items compared with all, at once
Vectors = Any  # np.ndarray or scipy.sparse.csr_matrix, [V, D]


@dataclass(frozen=True)
class SimilarityConfig:
    """Settings of the lists; names equal the keys of `config.expansion.similarity`.

    Attributes:
        by: "co_visit", "vectors" or "graph".
        num_items: K, length of a list.
        window: co_visit only: events up to which two are neighbours.

    Raises:
        ValueError: if `by` is unknown, or a number below 1.
    """

    by: str
    num_items: int
    window: int

    def __post_init__(self) -> None:
        if self.by not in SIMILAR_BY:
            raise ValueError(
                f"similarity.by = {self.by!r} is unknown; known: {', '.join(SIMILAR_BY)}"
            )
        for name in ("num_items", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"similarity.{name} is {getattr(self, name)}; give at least 1")


@dataclass(frozen=True)
class SimilarItems:
    """The lists.

    Attributes:
        neighbours: int32 [V, K], most similar first; never the item itself.
        ends: float64 [V, K], running sums of their similarities; 0 for an item without any.
    """

    neighbours: np.ndarray
    ends: np.ndarray

    def has_any(self, items: np.ndarray) -> np.ndarray:
        """Returns bool [N], which of the items int [N] have similar ones."""
        return self.ends[items, -1] > 0

    def draw(self, items: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns int32 [N], an item of each list, by similarity.

        Args:
            items: int [N], items that have similar ones.
            uniforms: float64 [N] in [0, 1).
        """
        ends = self.ends[items]
        places = (ends <= (uniforms * ends[:, -1])[:, None]).sum(axis=1)
        return self.neighbours[items, places]


def get_similar(data: "ExpansionData", strategy: str) -> SimilarItems:
    """Returns the lists.

    Raises:
        ValueError: if there are none; names the strategy that asks.
    """
    if data.similar is None:
        raise ValueError(f"{strategy} needs data.similar, the lists of similar items")
    return data.similar


def count_co_visits(
    source: RecordSource, vocab_size: int, config: SimilarityConfig
) -> SimilarItems:
    """Returns lists by cosine of visits: pairs within the window, 1 / distance each.

    Streamed; memory is bounded by vocab_size x num_items, see `hmm.build_kernel`, which damps a
    pair by the square root of the other item's events: in one row, that is the cosine's order.

    Args:
        source: training records.
        vocab_size: V, item ids with the specials.
        config: settings.
    """
    settings = hmm.HmmSettings(
        num_states=1,
        num_iterations=1,
        tolerance=0.0,
        kernel_window=config.window,
        kernel_neighbours=config.num_items + 1,  # one may be the item itself
        kernel_backward=1.0,
        kernel_damping=0.5,
        smoothing=0.0,
    )
    kernel = hmm.build_kernel(_flat_batches(source), vocab_size, settings)
    neighbours = np.minimum(kernel.neighbours, vocab_size - 1)
    weights = np.asarray(kernel.counts * kernel.scale[neighbours], np.float64)
    return _make_lists(neighbours, weights, config.num_items)


def _flat_batches(source: RecordSource) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in batched(source, _BATCH):
        items = np.concatenate([record["items"] for record in batch])
        yield items, np.concatenate([[0], np.cumsum(lengths_of(batch))])


def compare_vectors(vectors: Vectors, item_ids: np.ndarray, num_items: int) -> SimilarItems:
    """Returns lists by cosine of vectors, above 0; every item with every other, in batches.

    Args:
        vectors: float [V, D], dense or sparse; a row of zeros resembles nothing.
        item_ids: int [N], rising, the items that have training events.
        num_items: K.
    """
    rows, vocab_size = _unit_rows(vectors[item_ids]), vectors.shape[0]
    neighbours = np.zeros((vocab_size, num_items + 1), np.int64)  # one may be the item itself
    weights = np.zeros((vocab_size, num_items + 1))
    kept = min(num_items + 1, len(item_ids))
    for start in range(0, len(item_ids), _BATCH):
        cosines = rows[start : start + _BATCH] @ rows.T
        cosines = cosines.toarray() if sparse.issparse(cosines) else cosines
        top = np.argpartition(-cosines, kept - 1, axis=1)[:, :kept]
        ids = item_ids[start : start + _BATCH]
        neighbours[ids, :kept] = item_ids[top]
        weights[ids, :kept] = np.take_along_axis(cosines, top, axis=1)
    return _make_lists(neighbours, weights, num_items)


def _unit_rows(vectors: Vectors) -> Vectors:
    if sparse.issparse(vectors):
        norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
        return (sparse.diags(1 / np.maximum(norms, 1e-9)) @ vectors).tocsr()
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def make_graph_vectors(facts: pa.Table, item_names: np.ndarray) -> sparse.csr_matrix:
    """Returns float64 [V, E], the entities that each item is linked with, rare ones weigh more.

    Items that are linked, or linked with the same entities, point the same way; what the relation
    is called does not matter.

    Args:
        facts: columns head and tail, names.
        item_names: object [V], the name of every id.
    """
    ends = [facts[name].combine_chunks() for name in ("head", "tail")]
    entities = pc.unique(pa.concat_arrays(ends))
    nodes = [pc.index_in(end, value_set=entities).to_numpy() for end in ends]
    named = pa.array(item_names, pa.string())
    items = [pc.fill_null(pc.index_in(end, value_set=named), -1).to_numpy() for end in ends]
    # an item meets the other end; where both are items, each stands for itself too
    linked = (items[0] >= 0) & (items[1] >= 0)
    rows = np.concatenate([items[0], items[1], items[0][linked], items[1][linked]])
    columns = np.concatenate([nodes[1], nodes[0], nodes[0][linked], nodes[1][linked]])
    cells = np.unique(np.stack([rows, columns])[:, rows >= 0], axis=1)
    table = sparse.csr_matrix(
        (np.ones(cells.shape[1]), cells), shape=(len(item_names), len(entities))
    )
    items_with = np.maximum(np.asarray(table.sum(axis=0)).ravel(), 1)
    return (table @ sparse.diags(np.log1p(len(item_names) / items_with))).tocsr()


def _make_lists(neighbours: np.ndarray, weights: np.ndarray, num_items: int) -> SimilarItems:
    """Returns the lists of the heaviest; cells that weigh nothing are never drawn."""
    weights = np.where(_is_itself(neighbours), 0.0, np.maximum(weights, 0.0))
    order = np.argsort(-weights, axis=1, kind="stable")[:, :num_items]
    sorted_weights = np.take_along_axis(weights, order, axis=1)
    best = np.take_along_axis(neighbours, order, axis=1).astype(np.int32)
    return SimilarItems(best, np.cumsum(sorted_weights, axis=1))


def _is_itself(neighbours: np.ndarray) -> np.ndarray:
    """Returns bool [V, K], the cells where an item stands in its own list."""
    return neighbours == np.arange(len(neighbours))[:, None]
