"""Gap bins, clock features, packing and padding, against slow loops."""

import datetime
import math

import numpy as np
import pytest

from recjax.data.transforms import (
    Placement,
    RowPacker,
    align_left,
    bin_gaps,
    day_of_week,
    gaps_of_times,
    hour_of_day,
    pad_ragged,
    place_records,
)


def make_record(length: int, seed: int) -> dict:
    rng = np.random.default_rng([seed])
    return {
        "items": rng.integers(5, 100, length).astype(np.int32),
        "actions": rng.integers(0, 9, length).astype(np.int32),
        "times": np.sort(rng.integers(0, 10**6, length)),
        "weight": 0.5 + seed,
        "source": seed % 3,
    }


def slow_block(records, placement, num_rows, max_len, num_gap_bins):
    names = ("items", "actions", "gaps", "positions", "segments")
    block = {name: np.zeros((num_rows, max_len), np.int32) for name in names}
    block["weights"] = np.zeros((num_rows, max_len), np.float32)
    where = zip(placement.rows, placement.starts, placement.segments, strict=True)
    for record, (row, start, segment) in zip(records, where, strict=True):
        kept = range(max(0, len(record["items"]) - max_len), len(record["items"]))
        for position, i in enumerate(kept):
            at = (row, start + position)
            gap = 0
            if position:
                seconds = int(record["times"][i] - record["times"][i - 1])
                gap = min(1 + int(math.floor(math.log2(1 + seconds))), num_gap_bins - 1)
            values = (record["items"][i], record["actions"][i], gap, position, segment)
            for name, value in zip(names, values, strict=True):
                block[name][at] = value
            block["weights"][at] = record["weight"]
    return block


def test_bin_gaps_matches_integer_arithmetic():
    seconds = np.array([0, 1, 2, 3, 6, 7, 8, 2**20 - 2, 2**20 - 1, 2**40 - 2, 2**40 - 1, -5])
    expected = [(1 + max(0, int(s))).bit_length() for s in seconds]
    assert bin_gaps(seconds, 100).tolist() == expected
    assert bin_gaps(seconds, 4).max() == 3
    assert bin_gaps(np.zeros(0, np.int64), 4).shape == (0,)


def test_gaps_of_times_starts_with_zero():
    assert gaps_of_times(np.array([100, 100, 103]), 16).tolist() == [0, 1, 3]
    assert gaps_of_times(np.zeros(0, np.int64), 16).tolist() == []


def test_hour_and_weekday_match_datetime():
    times = np.array([0, 86399, 1_700_000_000, 951_782_400, -1])
    stamps = [datetime.datetime.fromtimestamp(int(t), datetime.UTC) for t in times]
    assert hour_of_day(times).tolist() == [s.hour for s in stamps]
    assert day_of_week(times).tolist() == [s.weekday() for s in stamps]


@pytest.mark.parametrize("seed", range(5))
def test_place_records_matches_slow_loop(seed):
    rng = np.random.default_rng([seed])
    packer, records = RowPacker(4, 12), []
    while True:
        record = make_record(int(rng.integers(1, 18)), len(records))
        if not packer.add(len(record["items"])):
            break
        records.append(record)
    sizes = {"num_rows": 4, "max_len": 12, "num_gap_bins": 16}
    per_record = {"weights": ("weight", np.float32)}
    got = place_records(records, packer.placement, per_record=per_record, **sizes)
    expected = slow_block(records, packer.placement, **sizes)
    assert sorted(got) == sorted(expected)
    for name, block in expected.items():
        np.testing.assert_array_equal(got[name], block, err_msg=name)
        assert got[name].dtype == block.dtype


def test_packer_never_overfills_and_uses_the_first_row_with_room():
    packer = RowPacker(3, 10)
    assert [packer.add(n) for n in (6, 6, 4, 4, 99, 1)] == [True] * 5 + [False]
    placement = packer.placement
    assert placement.rows == [0, 1, 0, 1, 2]
    assert placement.starts == [0, 0, 6, 6, 0]
    assert placement.segments == [1, 1, 2, 2, 1]


def test_align_left_leaves_empty_records_and_spare_rows_empty():
    records = [make_record(3, 0), make_record(0, 1), make_record(9, 2)]
    batch = align_left(records, num_rows=5, max_len=4, num_gap_bins=16)
    expected = slow_block(records, Placement([0, 1, 2], [0] * 3, [1] * 3), 5, 4, 16)
    for name in batch:
        np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)
    assert batch["segments"].sum(1).tolist() == [3, 0, 4, 0, 0]


def test_align_left_takes_no_records():
    batch = align_left([], num_rows=2, max_len=3, num_gap_bins=16)
    assert all(values.shape == (2, 3) and not values.any() for values in batch.values())


def test_pad_ragged_keeps_the_last_values():
    block = pad_ragged([np.array([1, 2, 3]), np.zeros(0, np.int32)], 3, 2)
    assert block.tolist() == [[2, 3], [0, 0], [0, 0]]
