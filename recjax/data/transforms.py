"""From records to padded or packed arrays: gap bins, clock features, packing. Pure numpy.

Shared by the loader and by whoever makes a batch by hand (recommendations, the tasks' specs); knows
nothing of files, order or seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400


def bin_gaps(seconds: np.ndarray, num_gap_bins: int) -> np.ndarray:
    """Returns log2 bins of waiting times: 1 + floor(log2(1 + seconds)), capped.

    Args:
        seconds: int [...], seconds since the previous event; negative ones count as 0.
        num_gap_bins: number of bins G; bin 0 is kept for "no previous event".

    Returns:
        int32 [...], 1 <= bin <= G - 1.

    Example:
        >>> bin_gaps(np.array([0, 1, 2, 3, 10**9]), 16)
        array([ 1,  2,  2,  3, 15], dtype=int32)
    """
    # frexp gives the exact exponent of an integer, where log2 of 2**k - 1 rounds up for large k.
    exponents = np.frexp(1.0 + np.maximum(seconds, 0))[1]
    return np.minimum(exponents, num_gap_bins - 1).astype(np.int32)


def gaps_of_times(times: np.ndarray, num_gap_bins: int) -> np.ndarray:
    """Returns the gap bins int32 [T] of one sequence of times (seconds); the first is 0."""
    gaps = np.zeros(len(times), np.int32)
    gaps[1:] = bin_gaps(np.diff(times), num_gap_bins)
    return gaps


def hour_of_day(times: np.ndarray) -> np.ndarray:
    """Returns the hour int32 0..23 (UTC) of times in seconds."""
    return (times // SECONDS_PER_HOUR % 24).astype(np.int32)


def day_of_week(times: np.ndarray) -> np.ndarray:
    """Returns the day int32, Monday = 0 .. Sunday = 6 (UTC), of times in seconds."""
    return ((times // SECONDS_PER_DAY + 3) % 7).astype(np.int32)  # 1970-01-01 was a Thursday


@dataclass
class Placement:
    """Where N records go in a [B, T] block: row, first column and segment number of each."""

    rows: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)


class RowPacker:
    """First-fit packing of sequences into B rows of T events.

    Example:
        >>> packer = RowPacker(num_rows=2, max_len=5)
        >>> [packer.add(n) for n in (3, 4, 2, 2)]
        [True, True, True, False]
        >>> packer.placement
        Placement(rows=[0, 1, 0], starts=[0, 0, 3], segments=[1, 1, 2])
    """

    def __init__(self, num_rows: int, max_len: int) -> None:
        self._free = np.full(num_rows, max_len)
        self._count = [0] * num_rows
        self._max_len = max_len
        self.placement = Placement()

    def add(self, length: int) -> bool:
        """Places a sequence (cut to T events); False when no row has room for it."""
        length = min(length, self._max_len)
        row = int(np.argmax(self._free >= length))
        if self._free[row] < length:
            return False
        self._count[row] += 1
        self.placement.rows.append(row)
        self.placement.starts.append(self._max_len - int(self._free[row]))
        self.placement.segments.append(self._count[row])
        self._free[row] -= length
        return True


def place_records(
    records: Sequence[dict[str, Any]],
    placement: Placement,
    *,
    num_rows: int,
    max_len: int,
    num_gap_bins: int,
    per_record: Mapping[str, tuple[str, type]] | None = None,
) -> Batch:
    """Lays the last T events of each record into a padded [B, T] block.

    Args:
        records: N records with items, actions, times; a record without events leaves no trace.
        placement: row, first column and segment of each; start + min(length, T) <= T.
        num_rows: B.
        max_len: T, events.
        num_gap_bins: G.
        per_record: block name -> (scalar field of the record, dtype), repeated over its events.

    Returns:
        items, actions, gaps, positions, segments: int32 [B, T], and one [B, T] block for each entry
        of per_record; 0 on padding. Positions restart with each record, the gap of a record's first
        kept event is 0.
    """
    lengths = np.array([min(len(r["items"]), max_len) for r in records], np.int64)
    first = np.cumsum(lengths) - lengths
    positions = np.arange(lengths.sum()) - np.repeat(first, lengths)
    base = np.array(placement.rows, np.int64) * max_len + np.array(placement.starts, np.int64)
    where = np.repeat(base, lengths) + positions

    def last_events(name: str) -> np.ndarray:
        parts = [r[name][-max_len:] for r in records if len(r[name])]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def block(values: np.ndarray, dtype: type = np.int32) -> np.ndarray:
        flat: np.ndarray = np.zeros(num_rows * max_len, dtype)
        flat[where] = values
        return flat.reshape(num_rows, max_len)

    batch = {
        "items": block(last_events("items")),
        "actions": block(last_events("actions")),
        "gaps": block(_gaps_of_runs(last_events("times"), positions, num_gap_bins)),
        "positions": block(positions),
        "segments": block(np.repeat(np.array(placement.segments, np.int64), lengths)),
    }
    for name, (key, dtype) in (per_record or {}).items():
        batch[name] = block(np.repeat(np.array([r[key] for r in records], dtype), lengths), dtype)
    return batch


def _gaps_of_runs(times: np.ndarray, positions: np.ndarray, num_gap_bins: int) -> np.ndarray:
    """Returns the gap bins of sequences laid end to end; a run begins where the position is 0."""
    gaps = np.zeros(len(times), np.int32)
    gaps[1:] = bin_gaps(np.diff(times), num_gap_bins)
    gaps[positions == 0] = 0
    return gaps


def align_left(
    records: Sequence[dict[str, Any]], *, num_rows: int, max_len: int, num_gap_bins: int
) -> Batch:
    """Returns `place_records` with one record per row from column 0; B - N rows stay empty."""
    count = len(records)
    return place_records(
        records,
        Placement(list(range(count)), [0] * count, [1] * count),
        num_rows=num_rows,
        max_len=max_len,
        num_gap_bins=num_gap_bins,
    )


def pad_ragged(arrays: Sequence[np.ndarray], num_rows: int, width: int) -> np.ndarray:
    """Returns int32 [B, width]: arrays left-aligned, cut to their last `width` values, 0-padded."""
    block = np.zeros((num_rows, width), np.int32)
    for row, array in enumerate(arrays):
        kept = array[-width:]
        block[row, : len(kept)] = kept
    return block
