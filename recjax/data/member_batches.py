"""Endless batches with a leading member axis, whose iterator state is a few ints.

A batch is a pure function of its number and the position it starts at. So a run resumes exactly
from these alone, on any number of processes: each process plans the same global batch and keeps the
rows that it feeds. `loading` makes batches of records from it, `row_batches` of table rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from recjax.data.evaluation_batches import kept_rows
from recjax.data.order import MixedOrder, Position, ShuffledOrder
from recjax.data.transforms import Batch


class MemberDataset(grain.IterDataset):
    """Batches with a leading member axis M, each member reading in its own order.

    Subclasses say what one member's batch is: `_member_batch(member, position) -> (batch, next)`.

    Args:
        orders: one per member.
        batch_size: rows B of the global batch.
        rows: global rows that this process feeds, ascending; None: all.
    """

    def __init__(
        self,
        orders: Sequence[ShuffledOrder | MixedOrder],
        *,
        batch_size: int,
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self._rows, self._batch_size, self._orders = kept_rows(batch_size, rows), batch_size, orders

    @property
    def num_members(self) -> int:
        """Members M, the leading axis of every array."""
        return len(self._orders)

    def __iter__(self) -> _MemberIterator:
        return _MemberIterator(self)

    @property
    def start(self) -> list[Position]:
        """The members' positions before the first batch."""
        return [list(order.start) for order in self._orders]

    def batch_at(self, positions: Sequence[Position], number: int) -> tuple[Batch, list[Position]]:
        """Returns the batch [M, B, ...] of a number and starting positions, and where they end."""
        made = [self._member_batch(m, position, number) for m, position in enumerate(positions)]
        batches, ends = zip(*made, strict=True)
        batch = {name: np.stack([b[name] for b in batches]) for name in batches[0]}
        batch["row"] = np.tile(self._rows.astype(np.int32), (self.num_members, 1))
        return batch, list(ends)

    def _member_batch(self, member: int, position: Position, number: int) -> tuple[Batch, Position]:
        raise NotImplementedError


class _MemberIterator(grain.DatasetIterator):
    """Walks the batches; its state is their number and the position of each member."""

    def __init__(self, dataset: MemberDataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._number, self._positions = 0, dataset.start

    def __next__(self) -> Batch:
        batch, self._positions = self._dataset.batch_at(self._positions, self._number)
        self._number += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._number, "positions": [list(p) for p in self._positions]}

    def set_state(self, state: dict[str, Any]) -> None:
        positions = [[int(taken) for taken in position] for position in state["positions"]]
        if len(positions) != self._dataset.num_members:
            raise ValueError(
                f"the state has {len(positions)} members, the data {self._dataset.num_members}"
            )
        self._number, self._positions = int(state["batches"]), positions
