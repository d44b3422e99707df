"""Endless training batches from example sources; the iterator state is a few ints.

The order of a member (`order.py`) is an infinite shuffle, new in each epoch; what a batch is a
function of says `member_batches.py`. Arrays are made in `transforms.py`; records come from
`record_sources.py`. Batches that cover each example once are in `evaluation_batches.py`,
re-exported here.
Called by the pretrain, finetune and evaluate stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from grain import experimental as grain_experimental

from recjax.data.evaluation_batches import (
    click_batches,
    evaluation_batches,
    make_click_batch,
)
from recjax.data.member_batches import MemberDataset
from recjax.data.order import MixedOrder, Position, ShuffledOrder
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
    "TrainBatches",
    "click_batches",
    "evaluation_batches",
    "prefetch",
]

LONG_USERS = ("last", "random")
_PER_EVENT = ("items", "actions", "times")
_PER_RECORD: dict[str, tuple[str, type]] = {
    "weights": ("weight", np.float32),
    "sources": ("source", np.int32),
}


class _MemberBatches(MemberDataset):
    """Batches of records; subclasses make them from those at ascending places of a batch."""

    def __init__(
        self,
        sources: Sequence[Sequence[Source]],
        *,
        batch_size: int,
        max_len: int,
        num_gap_bins: int,
        seeds: Sequence[int],
        rows: Sequence[int] | None = None,
        synthetic_share: Callable[[int], float] | None = None,
    ) -> None:
        if len(sources) != len(seeds):
            raise ValueError(f"{len(sources)} members' sources but {len(seeds)} seeds")
        orders = [
            _make_order(member, seed, synthetic_share)
            for member, seed in zip(sources, seeds, strict=True)
        ]
        super().__init__(orders, batch_size=batch_size, rows=rows)
        self._max_len, self._num_gap_bins = max_len, num_gap_bins
        self._sources = [ConcatenatedSource(member) for member in sources]

    def _records(
        self, member: int, position: Position, number: int, places: Sequence[int]
    ) -> list[Record]:
        """Returns the records at ascending places of the batch."""
        return self._sources[member].__getitems__(
            self._orders[member].take(position, number, places)
        )


def _make_order(
    sources: Sequence[Source], seed: int, synthetic_share: Callable[[int], float] | None
) -> ShuffledOrder | MixedOrder:
    """Returns the order of one member; with a share, the first source holds the real records."""
    sizes = [len(source) for source in sources]
    if synthetic_share is None or len(sizes) == 1:
        return ShuffledOrder(sum(sizes), seed)
    return MixedOrder((sizes[0], sum(sizes[1:])), seed, synthetic_share)


class TrainBatches(_MemberBatches):
    """Packed (or plain) training sequences, endless.

    With `pack`, a batch starts from empty rows and takes users in order, each into the first row
    with room; the first user that fits nowhere starts the next batch. No user is lost or repeated
    within an epoch. Without `pack` a row holds one user. Of users longer than T, T events in a row
    are kept.

    Args:
        sources: per member, the sources it reads (real users, then synthetic ones).
        batch_size: rows B of the global batch.
        max_len: T, events.
        num_gap_bins: G.
        pack: several users per row.
        long_users: which T events of a user longer than T: "last", or a "random" run of them, drawn
            anew each time.
        seeds: one per member.
        rows: global rows that this process feeds, ascending; None: all.
        synthetic_share: number of a batch, from 0 -> share of its records that are taken from the
            sources behind a member's first; None, or one source: all records equally often.

    Yields:
        items, actions, gaps, positions, segments, sources: int32 [M, B, T]; weights: float32, the
        record's weight, 0 on padding; row: int32 [M, B], the global row. B stands for the rows
        that this process feeds.

    Raises:
        ValueError: if members and seeds differ in number, a member has no records, a row is
            outside of the batch, or `long_users` is unknown.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Source]],
        *,
        seeds: Sequence[int],
        pack: bool = True,
        long_users: str = "last",
        **options: Any,
    ) -> None:
        super().__init__(sources, seeds=seeds, **options)
        if long_users not in LONG_USERS:
            known = " or ".join(map(repr, LONG_USERS))
            raise ValueError(f"long_users must be {known}, got {long_users!r}")
        self._pack, self._long_users, self._seeds = pack, long_users, seeds

    def _member_batch(self, member: int, position: Position, number: int) -> tuple[Batch, Position]:
        records, placement = self._plan(member, position, number)
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
        return batch, self._orders[member].after(position, number, len(records))

    def _plan(self, member: int, position: Position, number: int) -> tuple[list[Record], Placement]:
        size = self._batch_size
        if not self._pack:
            rows = Placement(list(range(size)), [0] * size, [1] * size)
            return self._records(member, position, number, range(size)), rows
        packer = RowPacker(size, self._max_len)
        taken: list[Record] = []
        while True:
            places = range(len(taken), len(taken) + max(16, size // 2))
            for record in self._records(member, position, number, places):
                if not packer.add(len(record["items"])):
                    return taken, packer.placement
                taken.append(record)

    def _records(
        self, member: int, position: Position, number: int, places: Sequence[int]
    ) -> list[Record]:
        records = super()._records(member, position, number, places)
        if self._long_users == "last":  # the last events are what arrays are made of
            return records
        draw = [self._seeds[member], number]
        return [self._random_run(r, [*draw, p]) for r, p in zip(records, places, strict=True)]

    def _random_run(self, record: Record, draw: Sequence[int]) -> Record:
        """Returns T events in a row of a longer record, their place by the numbers of the draw."""
        spare = len(record["items"]) - self._max_len
        if spare <= 0:
            return record
        start = int(np.random.default_rng(draw).integers(spare + 1))
        run = slice(start, start + self._max_len)
        return {**record, **{name: record[name][run] for name in _PER_EVENT}}


class ClickTrainBatches(_MemberBatches):
    """Endless click examples; arguments as `TrainBatches` without `pack`.

    Yields:
        items, actions, gaps, positions, segments: int32 [M, B, T], the history left-aligned, its
        last T events; candidate, candidate_gap, hour, weekday, position: int32 [M, B]; label,
        weight: float32 [M, B]; row: int32 [M, B].
    """

    def _member_batch(self, member: int, position: Position, number: int) -> tuple[Batch, Position]:
        batch = make_click_batch(
            self._records(member, position, number, [int(row) for row in self._rows]),
            num_rows=len(self._rows),
            max_len=self._max_len,
            num_gap_bins=self._num_gap_bins,
        )
        return batch, self._orders[member].after(position, number, self._batch_size)


def prefetch(dataset: grain.IterDataset, num_batches: int) -> grain.IterDataset:
    """Makes batches ahead in one thread; the state stays that of the last batch handed out."""
    if num_batches == 0:
        return dataset
    return grain_experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=num_batches)
