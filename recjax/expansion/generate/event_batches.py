"""Real users as batches of HMM events, all of one shape, read as often as a fit needs them.

Not here: the fit (`generator`). Batches are kept in memory while they are small (per event 12
bytes) and read again from the source when they are not.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from recjax.data.transforms import gaps_of_times
from recjax.expansion.records import Record, RecordSource
from recjax.hmm import Events

_CACHE_CELLS = 40_000_000  # padded events, 480 MB


def make_events(
    records: Sequence[Record],
    item_index: np.ndarray,
    *,
    num_rows: int,
    max_len: int,
    num_gap_bins: int,
) -> Events:
    """Returns the last T events of each record as HMM events, left-aligned; other rows are empty.

    Args:
        records: at most B records.
        item_index: int32 [V], item id -> index of the generator.
        num_rows: B.
        max_len: T.
        num_gap_bins: G.
    """
    items, actions, gaps = (np.zeros((num_rows, max_len), np.int32) for _ in range(3))
    lengths = np.zeros(num_rows, np.int32)
    for row, record in enumerate(records):
        length = min(len(record["items"]), max_len)
        lengths[row] = length
        if length:
            items[row, :length] = item_index[record["items"][-length:]]
            actions[row, :length] = record["actions"][-length:]
            gaps[row, :length] = gaps_of_times(record["times"][-length:], num_gap_bins)
    return Events(items, actions, gaps, lengths)


class EventBatches:
    """A callable that yields the events of chosen users, the same every time."""

    def __init__(
        self,
        source: RecordSource,
        users: np.ndarray,
        item_index: np.ndarray,
        *,
        batch_size: int,
        max_len: int,
        num_gap_bins: int,
    ) -> None:
        """Makes the stream.

        Args:
            source: training records.
            users: int64 [N], places in the source.
            item_index: int32 [V], item id -> index of the generator.
            batch_size: B, users per batch.
            max_len: T, events per user; longer users keep their last ones.
            num_gap_bins: G.
        """
        self._source, self._users, self._item_index = source, users, item_index
        self._shape = {"num_rows": batch_size, "max_len": max_len, "num_gap_bins": num_gap_bins}
        self._cache: list[Events] | None = None
        self._fits = len(users) * max_len <= _CACHE_CELLS

    def __call__(self) -> Iterator[Events]:
        """Yields Events [B, T]; rows that are left over in the last batch are empty."""
        if not self._fits:
            return self._read()
        if self._cache is None:
            self._cache = list(self._read())
        return iter(self._cache)

    def _read(self) -> Iterator[Events]:
        size = self._shape["num_rows"]
        for start in range(0, len(self._users), size):
            users = self._users[start : start + size]
            records = [self._source[int(user)] for user in users]
            yield make_events(records, self._item_index, **self._shape)
