import numpy as np
import pytest

from recjax.expansion.gate.duplicates import NONE, ExactIndex, NearIndex, SortedRuns
from recjax.expansion.gate.hashing import hash_bags, hash_sequences, hash_shingles
from recjax.expansion.gate.minhash import choose_band_rows, compute_minhashes, estimate_similarity


def _pad(sequences):
    lengths = np.array([len(s) for s in sequences])
    items = np.full((len(sequences), lengths.max()), 99)  # padding must not matter
    for row, sequence in enumerate(sequences):
        items[row, : len(sequence)] = sequence
    return items, lengths


def _jaccard(left, right, size):
    def shingles(sequence):
        return {tuple(sequence[i : i + size]) for i in range(max(1, len(sequence) - size + 1))}

    return len(shingles(left) & shingles(right)) / len(shingles(left) | shingles(right))


def test_sequence_hash_depends_on_items_order_and_length_only():
    items, lengths = _pad([[5, 6, 7], [5, 6, 7], [7, 6, 5], [5, 6], [5, 6, 7, 0]])
    hashes = hash_sequences(items, lengths)
    assert hashes[0] == hashes[1]
    assert len(set(hashes[1:].tolist())) == 4
    wider = np.pad(items, ((0, 0), (0, 3)), constant_values=3)
    np.testing.assert_array_equal(hash_sequences(wider, lengths), hashes)


def test_bag_hash_ignores_order_but_counts_items():
    hashes = hash_bags(*_pad([[5, 6, 6], [6, 5, 6], [5, 5, 6]]))
    assert hashes[0] == hashes[1] != hashes[2]


def test_shingles_of_equal_runs_agree_and_short_users_have_one():
    hashes, mask = hash_shingles(*_pad([[5, 6, 7, 8], [9, 6, 7, 8], [5, 6]]), 3)
    assert mask.sum(axis=1).tolist() == [2, 2, 1]
    assert hashes[0, 1] == hashes[1, 1] and hashes[0, 0] != hashes[1, 0]


def test_minhash_estimates_jaccard_within_its_error():
    rng = np.random.default_rng(0)
    left = rng.integers(5, 40, (200, 30))
    right = left.copy()
    right[:, 25:] = rng.integers(5, 40, (200, 5))
    lengths = np.full(200, 30)
    signatures = [
        compute_minhashes(part, lengths, num_hashes=256, shingle_len=2) for part in (left, right)
    ]
    estimated = estimate_similarity(*(part.astype(np.uint8) for part in signatures))
    true = np.array([_jaccard(a.tolist(), b.tolist(), 2) for a, b in zip(left, right, strict=True)])
    assert abs((estimated - true).mean()) < 0.01
    assert np.abs(estimated - true).max() < 4 * 0.5 / np.sqrt(256)


@pytest.mark.parametrize(("num_hashes", "threshold"), [(64, 0.9), (64, 0.5), (30, 0.7), (7, 0.9)])
def test_band_rows_divide_hashes_and_find_pairs_at_the_threshold(num_hashes, threshold):
    rows = choose_band_rows(num_hashes, threshold)
    assert num_hashes % rows == 0
    assert rows == 1 or 1 - (1 - threshold**rows) ** (num_hashes // rows) >= 0.98


def test_sorted_runs_find_what_was_added_and_stay_few():
    rng, runs, seen = np.random.default_rng(1), SortedRuns(), set()
    for size in rng.integers(0, 50, 60):
        values = rng.integers(0, 2000, size).astype(np.uint64)
        runs.add(values)
        seen |= set(values.tolist())
    queries = np.arange(2000, dtype=np.uint64)
    assert runs.contains(queries).tolist() == [q in seen for q in range(2000)]
    assert len(runs.runs) < 12
    assert all((np.diff(run.astype(np.int64)) >= 0).all() for run in runs.runs)


def test_exact_index_is_empty_at_first():
    index = ExactIndex()
    assert not index.contains(np.array([0, 7], np.uint64)).any()


def test_twin_share_counts_all_users_of_a_repeated_sequence():
    index = ExactIndex()
    index.add(np.array([1, 2, 3, 4], np.uint64))
    assert index.compute_twin_share() == 0.0
    index.add(np.array([2, 9], np.uint64))
    assert np.isclose(index.compute_twin_share(), 2 / 6)


def test_near_index_finds_brute_force_pairs():
    rng = np.random.default_rng(2)
    real = rng.integers(5, 300, (300, 40))
    draws = real[:100].copy()
    for row, changes in enumerate(np.arange(100) % 20):
        draws[row, 40 - changes :] = rng.integers(5, 300, changes)
    lengths = np.full(40, 40)
    index = NearIndex(64, 0.8)
    for start in range(0, 300, 77):
        part = real[start : start + 77]
        hashes = compute_minhashes(part, np.full(len(part), 40), num_hashes=64, shingle_len=3)
        index.add(hashes, np.arange(start, start + len(part)))
    lengths = np.full(100, 40)
    hashes = compute_minhashes(draws, lengths, num_hashes=64, shingle_len=3)
    originals = index.find_originals(hashes)
    found = originals != NONE
    assert (originals[found] == np.nonzero(found)[0]).all()
    true = np.array([_jaccard(real[i].tolist(), draws[i].tolist(), 3) for i in range(100)])
    assert found[true > 0.95].all()
    assert not found[true < 0.65].any()
    assert (index.find_originals(hashes, not_of=np.arange(100)) == NONE).all()


def test_near_index_before_looks_at_earlier_entries_only():
    index = NearIndex(32, 0.9)
    hashes = compute_minhashes(
        np.tile(np.arange(5, 25), (3, 1)), np.full(3, 20), num_hashes=32, shingle_len=3
    )
    index.add(hashes, np.array([-1, -1, -1]))
    assert index.find_originals(hashes, before=np.arange(3)).tolist() == [NONE, 0, 0]


def test_memory_of_a_user_is_what_is_stated():
    index, rng = NearIndex(64, 0.9), np.random.default_rng(0)
    for first in range(0, 20_000, 500):
        hashes = rng.integers(0, 2**32, (500, 64), np.uint32)
        index.add(hashes, np.arange(first, first + 500, dtype=np.int32))
    runs = sum(run.nbytes for band in index._bands for run in band.runs)
    assert runs == 20_000 * 64 and len(index._bands[0].runs) < 10
    assert index._signatures.nbytes + index._owners.nbytes <= 20_000 * 68 * 17 / 16
