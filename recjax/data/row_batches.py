"""Batches of the rows of a labelled table: endless ones for training, each row once to judge.

A batch is cut out of arrays, with no work per row; a table is read from disk as it is used.
Called by `recjax.row_experiment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from recjax.data.evaluation_batches import kept_rows
from recjax.data.member_batches import MemberDataset
from recjax.data.order import Position, TableOrder
from recjax.data.transforms import Batch


class Rows(Protocol):
    """Numbered rows, such as `recjax.data.prepare_rows.RowSource`."""

    def __len__(self) -> int:
        """Returns how many there are."""

    @property
    def ids(self) -> np.ndarray:
        """Rows of the embedding table, int32 [N, S]."""

    @property
    def values(self) -> np.ndarray | None:
        """Factors of the rows, float32 [N, S]; None where all are 1."""

    @property
    def label(self) -> np.ndarray:
        """Outcomes, float32 [N]."""


class RowTrainBatches(MemberDataset):
    """Endless batches of rows, in an order of its own for every member.

    Args:
        source: the training part; all members read it.
        batch_size: rows B of the global batch.
        seeds: one per member.
        rows: global rows that this process feeds, ascending; None: all.

    Yields:
        ids int32 [M, B, S]; values float32 [M, B, S], where they are not all 1; label and weight
        float32 [M, B]; row int32 [M, B], the global row.

    Raises:
        ValueError: if the table is empty, or a row is outside of the batch.
    """

    def __init__(
        self,
        source: Rows,
        *,
        batch_size: int,
        seeds: Sequence[int],
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        self._tables = [TableOrder(len(source), seed) for seed in seeds]
        super().__init__(self._tables, batch_size=batch_size, rows=rows)
        self._source = source

    def _member_batch(self, member: int, position: Position, number: int) -> tuple[Batch, Position]:
        order = self._tables[member]
        batch = take_rows(self._source, order.rows(position, self._rows))
        return batch, order.after(position, number, self._batch_size)


def row_batches(
    source: Rows, *, batch_size: int, rows: Sequence[int] | np.ndarray | None = None
) -> Iterator[Batch]:
    """Yields every row exactly once, in order; the last batch is padded.

    Args:
        source: any part.
        batch_size: rows B of the global batch.
        rows: global rows that this process feeds, ascending; None: all.

    Yields:
        As `RowTrainBatches` without M and row; also row_mask bool [B], False on padding, whose
        weight is 0.
    """
    kept = kept_rows(batch_size, rows)
    for start in range(0, len(source), batch_size):
        places = start + kept
        mask = places < len(source)
        batch = take_rows(source, np.where(mask, places, 0))
        yield batch | {"weight": mask.astype(np.float32), "row_mask": mask}


def take_rows(source: Rows, rows: np.ndarray) -> Batch:
    """Returns the batch [B, ...] of row numbers int [B]."""
    batch = {"ids": source.ids[rows], "label": source.label[rows]}
    if source.values is not None:
        batch["values"] = source.values[rows]
    return batch | {"weight": np.ones(len(rows), np.float32)}
