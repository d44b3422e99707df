import itertools
from dataclasses import replace

import numpy as np
import pytest

from recjax.expansion.gate import build_reference, run_gate
from recjax.expansion.gate.coverage import find_crossing, find_rare_items, share_by_category
from recjax.expansion.gate.quotas import select_for_quotas

NO_SLACK = np.zeros(1, np.int64)


def test_rare_items_are_the_least_seen_of_the_allowed():
    counts = np.array([0, 0, 5, 1, 9, 1, 3])
    allowed = counts > 0
    assert np.nonzero(find_rare_items(counts, allowed, 0.4))[0].tolist() == [3, 5]
    assert not find_rare_items(counts, allowed, 0.0).any()


def test_largest_categories_have_a_cell_each_and_the_others_one_together():
    counts = np.r_[0, 3, np.arange(100, 0, -1)]
    cells, shares = share_by_category(np.r_[0, 0, np.arange(1, 101)], counts)
    assert cells[:2].tolist() == [-1, -1] and cells[2:66].tolist() == list(range(64))
    assert set(cells[66:]) == {64} and len(shares) == 65
    np.testing.assert_allclose(shares[64], np.arange(1, 37).sum() / counts.sum())
    assert len(share_by_category(np.zeros(3, int), np.ones(3, int))[1]) == 0


def test_crossing_users_touch_two_categories_padding_and_none_aside():
    category_of_item = np.array([0, 1, 1, 2, 0])
    items = np.array([[1, 2, 0], [1, 3, 0], [3, 4, 0], [4, 4, 4], [3, 1, 2]])
    assert find_crossing(items, category_of_item).tolist() == [False, True, False, False, True]


def test_selection_swaps_no_more_than_needed():
    def select(quota, wanted=3, rows=6):
        excess = 10 * np.array([0, 0, 0, 2, 10, 10]) - int(100 * quota)
        kept, missed = select_for_quotas(excess[:rows, None], NO_SLACK, wanted)
        return kept.tolist(), missed.tolist()

    assert select(0.3) == ([1, 2, 4], [False])
    assert select(0.0) == ([0, 1, 2], [False])
    assert select(0.9) == ([3, 4, 5], [True])
    assert select(0.5, rows=2) == ([0, 1], [True])


def test_selection_for_one_quota_finds_what_brute_force_finds():
    rng = np.random.default_rng(0)
    for _ in range(30):
        excess = rng.integers(-9, 7, (8, 1))
        kept, missed = select_for_quotas(excess, NO_SLACK, 4)
        sums = [excess[list(rows)].sum() for rows in itertools.combinations(range(8), 4)]
        assert len(kept) == 4 and bool(missed[0]) == (max(sums) < 0)
        if missed[0]:
            assert excess[kept].sum() == max(sums)


def test_selection_brings_several_quotas_together():
    rng = np.random.default_rng(1)
    excess = rng.integers(-10, 11, (400, 6)) - 1
    kept, missed = select_for_quotas(excess, np.zeros(6, np.int64), 200)
    assert (excess[:200].sum(axis=0) < 0).sum() > 2
    assert len(kept) == 200 and not missed.any() and (excess[kept].sum(axis=0) >= 0).all()


@pytest.fixture
def keep(gate_config, real_log, fresh_log, draw_of, reference_sizes):
    """Runs the gate with some settings over draws that favour the first two categories."""
    favoured = [r for r in fresh_log if (r["items"] < 25).all()]
    draws = [
        record
        for i, fresh in enumerate(fresh_log)
        for record in (fresh, favoured[i % len(favoured)])
    ]

    def run(**settings):
        config = replace(
            gate_config, rare_item_quota=0.0, near_duplicate_jaccard=0.0,
            drop_exact_duplicates=False, **settings,
        )  # fmt: skip
        reference = build_reference(real_log, config, **reference_sizes)
        records, counts = run_gate(draw_of(draws), 150, config, reference)
        return list(records), counts, reference

    return run


def _shares(records, reference):
    items = np.concatenate([record["items"] for record in records])
    return np.bincount(reference.category_cells[items], minlength=6) / len(items)


def test_category_cap_and_floor_hold(keep):
    free, _, reference = keep()
    ratio = _shares(free, reference) / reference.category_shares
    assert ratio.max() > 1.5 and ratio.min() < 0.8
    for settings in ({"category_cap": 1.3}, {"category_floor": 0.85}):
        kept, counts, _ = keep(**settings)
        assert len(kept) == 150 and not counts.quotas_missed
        assert counts.removed["too_little_for_quotas"] > 0
        events = sum(len(record["items"]) for record in kept)
        excess = events * (_shares(kept, reference) - reference.category_shares * 1.3)
        lack = events * (reference.category_shares * 0.85 - _shares(kept, reference))
        assert (excess if "category_cap" in settings else lack).max() < 1  # whole events


def test_cross_category_quota_holds(keep):
    def crossing(records, reference):
        return np.mean([len(set(reference.category_of_item[r["items"]])) > 1 for r in records])

    free, _, reference = keep()
    assert crossing(free, reference) < reference.crossing_share
    kept, counts, _ = keep(cross_category_quota=1.0)
    assert crossing(kept, reference) >= reference.crossing_share and not counts.quotas_missed
    kept, counts, _ = keep(cross_category_quota=5.0)
    assert counts.quotas_missed == {"cross_category": 1} and counts.drawn >= 600


def test_quotas_of_categories_need_categories(
    gate_config, real_log, fresh_log, draw_of, reference_sizes
):
    config = replace(gate_config, category_cap=2.0)
    sizes = {**reference_sizes, "category_of_item": np.zeros(65, int)}
    reference = build_reference(real_log, config, **sizes)
    with pytest.raises(ValueError, match="category_cap .* need a catalogue with categories"):
        run_gate(draw_of(fresh_log), 10, config, reference)
