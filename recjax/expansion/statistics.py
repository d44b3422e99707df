"""Streaming counts that describe a log: lengths, actions, gaps, items, transitions, order.

Not here: comparing two logs and grading (`report_card`). Memory does not grow with the users: a
few arrays of [V], [C, C] and two of 2^18 hashed item pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from recjax.data.transforms import gaps_of_times
from recjax.expansion.gate.hashing import mix
from recjax.expansion.records import (
    Record,
    RecordSource,
    batched,
    lengths_of,
    pad_field,
)

_PAIR_BUCKETS = 1 << 18
_FAR = 3  # events between two items that count as far apart
_BATCH = 1024


@dataclass(frozen=True)
class LogSpec:
    """Sizes that all compared logs share.

    Attributes:
        category_index: int32 [V], the transition cell of every item id: its category's rank by
            events, `num_categories - 1` for the rest and for items without category.
        num_categories: C.
        num_actions: A.
        num_gap_bins: G.
        max_len: lengths above it are counted as it.
    """

    category_index: np.ndarray
    num_categories: int
    num_actions: int
    num_gap_bins: int
    max_len: int


def rank_categories(
    category_of_item: np.ndarray, item_counts: np.ndarray, limit: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the transition cell of every item, and the category behind every cell.

    Args:
        category_of_item: int [V], 0 = none.
        item_counts: int64 [V], training events.
        limit: categories with a cell of their own.

    Returns:
        int32 [V] cells, and int64 [C - 1] category ids; the last cell C - 1 is "other".
    """
    events = np.bincount(category_of_item, weights=item_counts)
    events[0] = 0
    top = np.argsort(-events, kind="stable")[:limit]
    top = top[events[top] > 0]
    cells = np.full(len(events), len(top), np.int32)
    cells[top] = np.arange(len(top))
    return cells[category_of_item], top


@dataclass
class LogStatistics:
    """Additive counts over users; `left + right` describes both.

    Attributes:
        users, events: totals.
        lengths: int64 [max_len + 1], users by number of events.
        actions: int64 [A]; action_pairs int64 [A, A], consecutive actions.
        gaps: int64 [G], first events of users left out.
        items: int64 [V]; foreign: events with ids that are no ids of the vocabulary.
        category_pairs: int64 [C, C], categories of consecutive events.
        near_pairs, far_pairs: int64 [2^18], hashed ordered item pairs one and three events apart.
        repeats: events whose item the user had before.
        same_expected: consecutive pairs that would share a category were each user's order random.
    """

    spec: LogSpec
    users: int = 0
    events: int = 0
    foreign: int = 0
    repeats: int = 0
    same_expected: float = 0.0
    lengths: np.ndarray = field(init=False)
    actions: np.ndarray = field(init=False)
    action_pairs: np.ndarray = field(init=False)
    gaps: np.ndarray = field(init=False)
    items: np.ndarray = field(init=False)
    category_pairs: np.ndarray = field(init=False)
    near_pairs: np.ndarray = field(init=False)
    far_pairs: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        self.lengths = np.zeros(spec.max_len + 1, np.int64)
        self.actions = np.zeros(spec.num_actions, np.int64)
        self.action_pairs = np.zeros((spec.num_actions, spec.num_actions), np.int64)
        self.gaps = np.zeros(spec.num_gap_bins, np.int64)
        self.items = np.zeros(len(spec.category_index), np.int64)
        self.category_pairs = np.zeros((spec.num_categories, spec.num_categories), np.int64)
        self.near_pairs = np.zeros(_PAIR_BUCKETS, np.int64)
        self.far_pairs = np.zeros(_PAIR_BUCKETS, np.int64)

    def __add__(self, other: "LogStatistics") -> "LogStatistics":
        total = LogStatistics(self.spec)
        for part in fields(self):
            if part.name != "spec":
                setattr(total, part.name, getattr(self, part.name) + getattr(other, part.name))
        return total

    def add(self, records: Sequence[Record]) -> None:
        """Adds users; their arrays are only read."""
        items, lengths = pad_field(records, "items"), lengths_of(records)
        mask = np.arange(items.shape[1]) < lengths[:, None]
        known = mask & (items >= 0) & (items < len(self.items))
        self.users += len(records)
        self.events += int(mask.sum())
        self.foreign += int((mask & ~known).sum())
        self.lengths += np.bincount(
            np.minimum(lengths, self.spec.max_len), minlength=len(self.lengths)
        )
        self.items += np.bincount(items[known], minlength=len(self.items))
        self._add_actions(records, mask)
        self._add_pairs(items, mask)
        self._add_categories(np.where(known, items, 0), mask)
        for record in records:
            self.gaps += np.bincount(
                gaps_of_times(record["times"], self.spec.num_gap_bins)[1:],
                minlength=len(self.gaps),
            )

    def _add_actions(self, records: Sequence[Record], mask: np.ndarray) -> None:
        size = self.spec.num_actions
        actions = np.clip(pad_field(records, "actions"), 0, size - 1)
        self.actions += np.bincount(actions[mask], minlength=size)
        cells = (actions[:, :-1] * size + actions[:, 1:])[mask[:, 1:]]
        self.action_pairs += np.bincount(cells, minlength=size * size).reshape(size, size)

    def _add_pairs(self, items: np.ndarray, mask: np.ndarray) -> None:
        ordered = np.sort(np.where(mask, items, -1), axis=1)
        self.repeats += int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum())
        for counts, lag in ((self.near_pairs, 1), (self.far_pairs, _FAR)):
            first, second = items[:, :-lag][mask[:, lag:]], items[:, lag:][mask[:, lag:]]
            changed = first != second  # a repeat is another matter than order
            with np.errstate(over="ignore"):
                hashes = mix(mix(first[changed]) + second[changed].astype(np.uint64))
            buckets = (hashes % np.uint64(_PAIR_BUCKETS)).astype(np.int64)
            counts += np.bincount(buckets, minlength=_PAIR_BUCKETS)

    def _add_categories(self, items: np.ndarray, mask: np.ndarray) -> None:
        size = self.spec.num_categories
        cells = self.spec.category_index[items].astype(np.int64)
        pairs = (cells[:, :-1] * size + cells[:, 1:])[mask[:, 1:]]
        self.category_pairs += np.bincount(pairs, minlength=size * size).reshape(size, size)
        rows = np.broadcast_to(np.arange(len(items))[:, None], items.shape)
        flat_counts = np.bincount((rows * size + cells)[mask], minlength=len(items) * size)
        counts = flat_counts.reshape(len(items), size).astype(np.float64)
        totals = mask.sum(axis=1)
        # of n (n - 1) ordered pairs of a user's events, n - 1 are consecutive
        same = (counts * (counts - 1)).sum(axis=1) / np.maximum(totals, 1)
        self.same_expected += float(same.sum())


def count_log(records: RecordSource | Iterable[Record], spec: LogSpec) -> LogStatistics:
    """Returns the statistics of many users, streamed."""
    statistics = LogStatistics(spec)
    for batch in batched(records, _BATCH):
        statistics.add(batch)
    return statistics


def count_halves(
    records: RecordSource | Iterable[Record], spec: LogSpec
) -> tuple[LogStatistics, LogStatistics]:
    """Returns the statistics of every second user and of the others: how much chance alone does."""
    even, odd = LogStatistics(spec), LogStatistics(spec)
    for batch in batched(records, 2 * _BATCH):
        even.add(batch[0::2])
        if len(batch) > 1:
            odd.add(batch[1::2])
    return even, odd
