"""Batches that cover every example exactly once, and how one batch is made from records.

The training order is in `loading.py`; padding itself in `transforms.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recjax.data.record_sources import Source
from recjax.data.records import Record
from recjax.data.transforms import (
    Batch,
    align_left,
    bin_gaps,
    day_of_week,
    hour_of_day,
    pad_ragged,
)


def kept_rows(batch_size: int, rows: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Returns the rows of the global batch that a process feeds: those given, or all.

    Raises:
        ValueError: if a row is outside of the batch, or they do not ascend.
    """
    kept = np.arange(batch_size) if rows is None else np.asarray(rows)
    if not len(kept) or kept[0] < 0 or kept[-1] >= batch_size or (np.diff(kept) < 1).any():
        raise ValueError(f"rows {kept.tolist()} are not ascending rows of a batch of {batch_size}")
    return kept


def make_click_batch(
    records: Sequence[Record], *, num_rows: int, max_len: int, num_gap_bins: int
) -> Batch:
    """Returns the click batch [B, ...] of N <= B records; the last B - N rows have weight 0."""
    batch = align_left(records, num_rows=num_rows, max_len=max_len, num_gap_bins=num_gap_bins)

    def column(name: str, dtype: type) -> np.ndarray:
        return _pad(np.array([r[name] for r in records], dtype), num_rows)

    times = column("time", np.int64)
    last = [int(r["times"][-1]) if len(r["times"]) else None for r in records]
    waits = [0 if t is None else int(r["time"]) - t for r, t in zip(records, last, strict=True)]
    known = _pad(np.array([t is not None for t in last], bool), num_rows)
    gaps = bin_gaps(_pad(np.array(waits, np.int64), num_rows), num_gap_bins)
    batch["candidate"] = column("item", np.int32)
    batch["candidate_gap"] = np.where(known, gaps, 0).astype(np.int32)
    batch["hour"] = hour_of_day(times)
    batch["weekday"] = day_of_week(times)
    batch["position"] = column("position", np.int32)
    batch["label"] = column("label", np.float32)
    batch["weight"] = column("weight", np.float32)
    return batch


def make_evaluation_batch(
    records: Sequence[Record], *, num_rows: int, max_len: int, num_gap_bins: int, history_len: int
) -> Batch:
    """Returns the next-item batch of N <= B records; see `evaluation_batches`."""
    batch = align_left(records, num_rows=num_rows, max_len=max_len, num_gap_bins=num_gap_bins)
    lengths = np.array([min(len(r["items"]), max_len) for r in records], np.int32)
    batch["lengths"] = _pad(lengths, num_rows)
    batch["target"] = _pad(np.array([r["target_item"] for r in records], np.int32), num_rows)
    batch["history"] = pad_ragged([r["seen"] for r in records], num_rows, history_len)
    batch["user"] = _pad(np.array([r["user"] for r in records], np.int32), num_rows)
    batch["row_mask"] = np.arange(num_rows) < len(records)
    return batch


def _pad(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(size - len(values), values.dtype)])


def evaluation_batches(
    source: Source,
    *,
    batch_size: int,
    max_len: int,
    num_gap_bins: int,
    history_len: int | None = None,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yields every next-item example exactly once, in order; the last batch is padded.

    Args:
        source: `next_item` records.
        batch_size: rows B of the global batch.
        max_len: T, events of history that the model sees.
        num_gap_bins: G.
        history_len: width H of `history`; None takes, batch by batch, the power of two (at least
            64) that holds the longest, so that few shapes are compiled.
        rows: global rows that this process feeds, ascending; None: all. Every process sees the
            same number of batches.

    Yields:
        items, actions, gaps, positions, segments: int32 [B, T] (history, left-aligned); lengths,
        target, user: int32 [B]; history: int32 [B, H], distinct items of the whole history, padded
        with 0; row_mask: bool [B], False on padding rows. B stands for the rows
        that this process feeds.
    """
    kept = kept_rows(batch_size, rows)
    for start in range(0, len(source), batch_size):
        records = source.__getitems__(range(start, min(start + batch_size, len(source))))
        longest = max(len(r["seen"]) for r in records)
        width = max(64, 1 << (longest - 1).bit_length()) if history_len is None else history_len
        yield make_evaluation_batch(
            [records[row] for row in kept if row < len(records)],
            num_rows=len(kept),
            max_len=max_len,
            num_gap_bins=num_gap_bins,
            history_len=width,
        )


def click_batches(
    source: Source,
    *,
    batch_size: int,
    max_len: int,
    num_gap_bins: int,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yields every click example exactly once, in order, as `ClickTrainBatches` without M.

    Two more arrays: user int32 [B] and row_mask bool [B], False on the padding of the last batch.
    """
    kept = kept_rows(batch_size, rows)
    for start in range(0, len(source), batch_size):
        records = source.__getitems__([start + row for row in kept if start + row < len(source)])
        batch = make_click_batch(
            records, num_rows=len(kept), max_len=max_len, num_gap_bins=num_gap_bins
        )
        batch["user"] = _pad(np.array([r["user"] for r in records], np.int32), len(kept))
        batch["row_mask"] = np.arange(len(kept)) < len(records)
        yield batch
