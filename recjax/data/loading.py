"""Endless training batches from example sources; the iterator state is one int a member.

The order of a member is an infinite shuffle, new in each epoch, that is a pure function of (seed,
position); a batch is a pure function of the position it starts at. So a run resumes exactly from
the positions alone, on any number of processes: each process plans the same global batch and keeps
the rows that it feeds. Arrays are made in `transforms.py`; records come from `record_sources.py`.
Batches that cover each example once are in `evaluation_batches.py`, re-exported here.
Called by the pretrain, finetune and evaluate stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from grain import experimental as grain_experimental

from recjax.data.evaluation_batches import (
    click_batches,
    evaluation_batches,
    kept_rows,
    make_click_batch,
)
from recjax.data.record_sources import ConcatenatedSource, Source
from recjax.data.records import Record
from recjax.data.transforms import (
    Batch,
    Placement,
    RowPacker,
    place_records,
)

__all__ = [
    "ClickTrainBatches",
    "ShuffledOrder",
    "TrainBatches",
    "click_batches",
    "evaluation_batches",
    "prefetch",
]

_PER_RECORD: dict[str, tuple[str, type]] = {
    "weights": ("weight", np.float32),
    "sources": ("source", np.int32),
}


class ShuffledOrder:
    """The infinite order of one member: every epoch a new permutation of the records.

    Args:
        size: number of records N.
        seed: the member's seed.

    Raises:
        ValueError: if there are no records.

    Example:
        >>> order = ShuffledOrder(4, seed=1)
        >>> sorted(order.indices(0, 4)), sorted(order.indices(4, 4))
        ([0, 1, 2, 3], [0, 1, 2, 3])
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("cannot train on no records at all")
        self._size, self._seed = size, seed
        self._epoch_seeds: dict[int, int] = {}

    def indices(self, start: int, count: int) -> list[int]:
        """Returns the record numbers at positions start .. start + count - 1."""
        if self._size == 1:
            return [0] * count
        return [self._index(position) for position in range(start, start + count)]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self._size)
        if epoch not in self._epoch_seeds:
            sequence = np.random.SeedSequence([self._seed, epoch])
            self._epoch_seeds = {epoch: int(sequence.generate_state(1)[0])}
        return grain_experimental.index_shuffle(
            place, max_index=self._size - 1, seed=self._epoch_seeds[epoch], rounds=4
        )


class _MemberBatches(grain.IterDataset):
    """Batches with a leading member axis M, each member reading its own sources in its own order.

    Subclasses say what one member's batch is: `_member_batch(member, position) -> (batch, next)`.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Source]],
        *,
        batch_size: int,
        max_len: int,
        num_gap_bins: int,
        seeds: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(sources) != len(seeds):
            raise ValueError(f"{len(sources)} members' sources but {len(seeds)} seeds")
        self._rows = kept_rows(batch_size, rows)
        self._batch_size, self._max_len, self._num_gap_bins = batch_size, max_len, num_gap_bins
        self._sources = [ConcatenatedSource(member) for member in sources]
        self._orders = [
            ShuffledOrder(len(source), seed)
            for source, seed in zip(self._sources, seeds, strict=True)
        ]

    @property
    def num_members(self) -> int:
        """Members M, the leading axis of every array."""
        return len(self._sources)

    def __iter__(self) -> _MemberIterator:
        return _MemberIterator(self)

    def batch_at(self, positions: Sequence[int]) -> tuple[Batch, list[int]]:
        """Returns the batch [M, B, ...] starting at the members' positions, and where they end."""
        made = [self._member_batch(m, position) for m, position in enumerate(positions)]
        batches, ends = zip(*made, strict=True)
        batch = {name: np.stack([b[name] for b in batches]) for name in batches[0]}
        batch["row"] = np.tile(self._rows.astype(np.int32), (self.num_members, 1))
        return batch, list(ends)

    def _member_batch(self, member: int, position: int) -> tuple[Batch, int]:
        raise NotImplementedError

    def _records(self, member: int, position: int, places: Sequence[int]) -> list[Record]:
        """Returns the records at the places, counted from the position, ascending."""
        indices = self._orders[member].indices(position, places[-1] + 1)
        return self._sources[member].__getitems__([indices[place] for place in places])


class _MemberIterator(grain.DatasetIterator):
    """Walks the batches; its state is the position of each member."""

    def __init__(self, dataset: _MemberBatches) -> None:
        super().__init__()
        self._dataset = dataset
        self._positions = [0] * dataset.num_members

    def __next__(self) -> Batch:
        batch, self._positions = self._dataset.batch_at(self._positions)
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"positions": [int(p) for p in self._positions]}

    def set_state(self, state: dict[str, Any]) -> None:
        positions = [int(p) for p in state["positions"]]
        if len(positions) != self._dataset.num_members:
            raise ValueError(
                f"the state has {len(positions)} members, the data {self._dataset.num_members}"
            )
        self._positions = positions


class TrainBatches(_MemberBatches):
    """Packed (or plain) training sequences, endless.

    With `pack`, a batch starts from empty rows and takes users in order, each into the first row
    with room; the first user that fits nowhere starts the next batch. No user is lost or repeated
    within an epoch. Without `pack` a row holds one user. Users longer than T keep their last T
    events.

    Args:
        sources: per member, the sources it reads (real users, then synthetic ones).
        batch_size: rows B of the global batch.
        max_len: T, events.
        num_gap_bins: G.
        pack: several users per row.
        seeds: one per member.
        rows: global rows that this process feeds, ascending; None: all.

    Yields:
        items, actions, gaps, positions, segments, sources: int32 [M, B, T]; weights: float32, the
        record's weight, 0 on padding; row: int32 [M, B], the global row. B stands for the rows
        that this process feeds.

    Raises:
        ValueError: if members and seeds differ in number, a member has no records, or a row is
            outside of the batch.
    """

    def __init__(
        self, sources: Sequence[Sequence[Source]], *, pack: bool = True, **options: Any
    ) -> None:
        super().__init__(sources, **options)
        self._pack = pack

    def _member_batch(self, member: int, position: int) -> tuple[Batch, int]:
        records, placement = self._plan(member, position)
        place = {int(row): place for place, row in enumerate(self._rows)}
        mine = [i for i, row in enumerate(placement.rows) if row in place]
        batch = place_records(
            [records[i] for i in mine],
            Placement(
                [place[placement.rows[i]] for i in mine],
                [placement.starts[i] for i in mine],
                [placement.segments[i] for i in mine],
            ),
            num_rows=len(self._rows),
            max_len=self._max_len,
            num_gap_bins=self._num_gap_bins,
            per_record=_PER_RECORD,
        )
        return batch, position + len(records)

    def _plan(self, member: int, position: int) -> tuple[list[Record], Placement]:
        size = self._batch_size
        if not self._pack:
            rows = Placement(list(range(size)), [0] * size, [1] * size)
            return self._records(member, position, range(size)), rows
        packer = RowPacker(size, self._max_len)
        taken: list[Record] = []
        while True:
            for record in self._records(member, position + len(taken), range(max(16, size // 2))):
                if not packer.add(len(record["items"])):
                    return taken, packer.placement
                taken.append(record)


class ClickTrainBatches(_MemberBatches):
    """Endless click examples; arguments as `TrainBatches` without `pack`.

    Yields:
        items, actions, gaps, positions, segments: int32 [M, B, T], the history left-aligned, its
        last T events; candidate, candidate_gap, hour, weekday, position: int32 [M, B]; label,
        weight: float32 [M, B]; row: int32 [M, B].
    """

    def _member_batch(self, member: int, position: int) -> tuple[Batch, int]:
        batch = make_click_batch(
            self._records(member, position, [int(row) for row in self._rows]),
            num_rows=len(self._rows),
            max_len=self._max_len,
            num_gap_bins=self._num_gap_bins,
        )
        return batch, position + self._batch_size


def prefetch(dataset: grain.IterDataset, num_batches: int) -> grain.IterDataset:
    """Makes batches ahead in one thread; the state stays that of the last batch handed out."""
    if num_batches == 0:
        return dataset
    return grain_experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=num_batches)
