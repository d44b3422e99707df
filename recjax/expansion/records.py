"""Training records as the expansion room sees them.

A record is one user's training sequence, as the `sequences` examples hold it:
`{user, items int32 [L], actions int32 [L], times int64 [L] (s), sessions int32 [L], weight,
source}`. Real users have source 0; what expansion made has source 1 + index of its strategy.
Items are ids of the vocabulary (specials included, so the first item is NUM_SPECIALS).

Not here: reading and writing examples (`recjax.data.examples`). Called by every file of this room.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recjax.data.vocabulary import NUM_SPECIALS

Record = dict[str, Any]
NO_USER = -1  # `user` of a record that continues no real user
SEQUENCE_FIELDS = ("items", "actions", "times", "sessions")
# draw(first, n): rows first..first + n - 1; row b is the same whatever n and first are
DrawFn = Callable[[int, int], Sequence[Record]]


@runtime_checkable
class RecordSource(Protocol):
    """Random access to the real users' training records."""

    def __len__(self) -> int:
        """Returns the number of users."""

    def __getitem__(self, index: int) -> Record:
        """Returns the record of one user."""


def iterate(source: RecordSource | Iterable[Record]) -> Iterator[Record]:
    """Yields the records of a random-access source, or of any iterable, in order."""
    if isinstance(source, RecordSource):
        return (source[i] for i in range(len(source)))
    return iter(source)


def batched(source: RecordSource | Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Yields lists of at most `size` records, so that numpy can work on many users at once."""
    batch: list[Record] = []
    for record in iterate(source):
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def spread_evenly(places: np.ndarray, limit: int) -> np.ndarray:
    """Returns at most `limit` of the places, evenly spread over them, in order.

    Example:
        >>> spread_evenly(np.arange(10), 3).tolist()
        [1, 5, 8]
    """
    count = min(len(places), limit)
    return places[((np.arange(count) + 0.5) * len(places) / max(count, 1)).astype(np.int64)]


def pick_evenly(source: RecordSource, limit: int) -> list[Record]:
    """Returns at most `limit` records, evenly spread over a source, in order."""
    return [source[int(place)] for place in spread_evenly(np.arange(len(source)), limit)]


def compute_sessions(times: np.ndarray, session_gap_seconds: int) -> np.ndarray:
    """Returns int32 [L], the 0-based session of every event: a longer gap opens a new one.

    Example:
        >>> compute_sessions(np.array([0, 60, 5000]), 1800).tolist()
        [0, 0, 1]
    """
    breaks = np.diff(np.asarray(times, np.int64)) > session_gap_seconds
    return np.concatenate([np.zeros(min(len(times), 1)), np.cumsum(breaks)]).astype(np.int32)


def make_record(
    items: np.ndarray,
    actions: np.ndarray,
    times: np.ndarray,
    *,
    session_gap_seconds: int,
    user: int = NO_USER,
    source: int = 0,
) -> Record:
    """Returns one record of weight 1 whose arrays are fresh copies of the right types."""
    return {
        "user": int(user),
        "items": np.array(items, np.int32),
        "actions": np.array(actions, np.int32),
        "times": np.array(times, np.int64),
        "sessions": compute_sessions(times, session_gap_seconds),
        "weight": np.float32(1.0),
        "source": int(source),
    }


def slice_record(record: Record, start: int, stop: int) -> Record:
    """Returns events start..stop - 1 of a record as a new record; its sessions restart at 0."""
    part = {name: np.array(record[name][start:stop]) for name in SEQUENCE_FIELDS}
    if len(part["sessions"]):
        part["sessions"] -= part["sessions"][0]
    return {**record, **part}


def lengths_of(records: Sequence[Record]) -> np.ndarray:
    """Returns int64 [B], the number of events of each record."""
    return np.array([len(record["items"]) for record in records], np.int64)


def count_items(source: RecordSource | Iterable[Record]) -> np.ndarray:
    """Returns int64 [largest id + 1], the events of every item id.

    Example:
        >>> count_items([{"items": np.array([1, 3])}, {"items": np.array([1])}]).tolist()
        [0, 2, 0, 1]
    """
    counts = np.zeros(0, np.int64)
    for batch in batched(source, 1024):
        found = np.bincount(np.concatenate([record["items"] for record in batch]))
        longer, shorter = (found, counts) if len(found) > len(counts) else (counts, found)
        longer[: len(shorter)] += shorter
        counts = longer
    return counts


def pad_field(records: Sequence[Record], name: str, width: int = 0) -> np.ndarray:
    """Returns one field of many records as int64 [B, T], padded with 0 on the right.

    Args:
        records: B records.
        name: the field, for example "items".
        width: T, 0 for the longest record; longer records keep their first T events.
    """
    lengths = lengths_of(records)
    width = width or int(lengths.max(initial=1))
    padded = np.zeros((len(records), width), np.int64)
    for row, record in enumerate(records):
        values = record[name][:width]
        padded[row, : len(values)] = values
    return padded


__all__ = [
    "NO_USER",
    "NUM_SPECIALS",
    "SEQUENCE_FIELDS",
    "DrawFn",
    "Record",
    "RecordSource",
    "batched",
    "compute_sessions",
    "count_items",
    "iterate",
    "lengths_of",
    "make_record",
    "pad_field",
    "pick_evenly",
    "slice_record",
    "spread_evenly",
]
