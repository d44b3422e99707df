"""How trained members are judged: full-catalogue ranks and click scores, compiled once.

The same functions serve early stopping (on validation) and the evaluate stage (on test). Every
example is judged exactly once; padding rows are dropped on the host. Of several processes each
feeds its rows of a batch, and all are told the results of all rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from recjax.metrics import auc, ndcg_at, ranks_and_top_items
from recjax.parallel import Engine
from recjax.tasks import Click, Mixture, NextItem, RowClick, SequenceGan, SequenceVae

Tree = Any
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Ranked:
    """Ranks of the targets and the best items, members first.

    Attributes:
        ranks: float32 [M, N], 0-based, ties at half.
        top_items: int32 [M, N, n].
        top_scores: float32 [M, N, n].
    """

    ranks: np.ndarray
    top_items: np.ndarray
    top_scores: np.ndarray


@dataclass(frozen=True)
class Ranker:
    """Ranks the whole catalogue for the histories of a batch.

    Attributes:
        task: gives queries and the item table.
        engine: where it runs.
        constants: arrays by item id that the model looks up.
        item_chunk: catalogue items scored at once.
        top_n: length of the lists.
        mask_history: whether the own history is taken out.
    """

    task: NextItem | Mixture | SequenceVae | SequenceGan
    engine: Engine
    constants: Mapping[str, np.ndarray]
    item_chunk: int
    top_n: int
    mask_history: bool

    def __post_init__(self) -> None:
        """Compiles lazily; one trace per history width."""
        constants = self.engine.put_constants(dict(self.constants))
        object.__setattr__(self, "_run", self.engine.compile_rows(self._rank))
        object.__setattr__(self, "_run_scores", self.engine.compile_rows(self._scores))
        object.__setattr__(self, "_constants", constants)

    def __call__(self, params: Tree, batches: Iterable[Batch]) -> Ranked:
        """Ranks every example of the batches; params leaves are [M, ...]."""
        parts = list(self.stream(params, batches))
        return Ranked(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))

    def stream(self, params: Tree, batches: Iterable[Batch]) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields (ranks [M, B], top items [M, B, n], top scores) per batch, padding dropped."""
        for batch in batches:
            rows = self.engine.put_batch(batch)
            out = self._run(params, rows, self._constants)  # type: ignore[attr-defined]
            *results, mask = (np.asarray(array) for array in out)
            yield tuple(array[:, mask[0]] for array in results)

    def scores(self, params: Tree, batch: Batch) -> np.ndarray:
        """Returns scores float32 [M, B, V] of one batch; for candidate lists of few users."""
        rows = self.engine.put_batch(batch)
        return np.asarray(self._run_scores(params, rows, self._constants))  # type: ignore[attr-defined]

    def _rank(self, params: Tree, batch: Tree, constants: Tree) -> tuple[jax.Array, ...]:
        def member(params: Tree) -> tuple[jax.Array, ...]:
            table, bias = self.task.item_table(params)
            ranked = ranks_and_top_items(
                self.task.queries(params, batch, constants),
                table,
                bias,
                batch["target"],
                batch["history"],
                item_chunk=self.item_chunk,
                top_n=self.top_n,
                mask_history=self.mask_history,
            )
            return (*ranked, batch["row_mask"])

        return jax.lax.map(member, params)

    def _scores(self, params: Tree, batch: Tree, constants: Tree) -> jax.Array:
        def member(params: Tree) -> jax.Array:
            table, bias = self.task.item_table(params)
            scores = self.task.queries(params, batch, constants) @ table.T
            return scores if bias is None else scores + bias[None]

        return jax.lax.map(member, params)


@dataclass(frozen=True)
class ClickScorer:
    """Scores shown items, or rows of a table; attributes as `Ranker`."""

    task: Click | RowClick
    engine: Engine
    constants: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        """Compiles lazily."""
        constants = self.engine.put_constants(dict(self.constants))
        object.__setattr__(self, "_run", self.engine.compile_rows(self._score))
        object.__setattr__(self, "_constants", constants)

    def __call__(self, params: Tree, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits float32 [M, N] and labels float32 [N] of every example.

        Params leaves are [M, ...]. Of several outcomes both have a last axis K.
        """
        logits, labels = [], []
        for batch in batches:
            rows = self.engine.put_batch(batch)
            out = self._run(params, rows, self._constants)  # type: ignore[attr-defined]
            scores, label, mask = (np.asarray(array) for array in out)
            logits.append(scores[:, mask[0]])
            labels.append(label[0, mask[0]])
        return np.concatenate(logits, axis=1), np.concatenate(labels)

    def _score(self, params: Tree, batch: Tree, constants: Tree) -> tuple[jax.Array, ...]:
        def member(params: Tree) -> tuple[jax.Array, ...]:
            return self.task.scores(params, batch, constants), batch["label"], batch["row_mask"]

        return jax.lax.map(member, params)


def ndcg_validator(ranker: Ranker, batches: list[Batch]) -> Callable[[Tree], np.ndarray]:
    """Returns params -> mean NDCG@10 [M] over the batches."""

    def validate(params: Tree) -> np.ndarray:
        return np.asarray(ndcg_at(ranker(params, batches).ranks, 10)).mean(axis=1)

    return validate


def auc_validator(scorer: ClickScorer, batches: list[Batch]) -> Callable[[Tree], np.ndarray]:
    """Returns params -> AUC [M] over the batches; of several outcomes the mean of those learned."""
    task = scorer.task
    learned = task.learned if isinstance(task, RowClick) else (0,)

    def validate(params: Tree) -> np.ndarray:
        logits, labels = scorer(params, batches)
        logits, labels = (np.atleast_3d(logits), labels.reshape(len(labels), -1))
        return np.array(
            [np.mean([auc(row[:, k], labels[:, k]) for k in learned]) for row in logits]
        )

    return validate
