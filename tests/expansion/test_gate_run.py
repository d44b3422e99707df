import copy
from dataclasses import replace

import numpy as np
import pytest

from recjax.expansion.gate import GateConfig, ScoreBand, UserIndex, build_reference, fit_band
from recjax.expansion.gate.run import run_gate
from recjax.expansion.records import slice_record

NO_QUOTA = {"rare_item_quota": 0.0}
ALL = ("items", "actions", "times", "sessions")


def _run(draw, wanted, config, reference, **kwargs):
    records, counts = run_gate(draw, wanted, config, reference, **kwargs)
    kept = list(records)
    assert counts.drawn == counts.kept + sum(counts.removed.values())
    assert counts.kept == len(kept)
    return kept, counts


def _changed(record, **fields):
    return {**copy.deepcopy(record), **fields}


def test_gate_keeps_fresh_users_and_counts_everything(fresh_log, reference, gate_config, draw_of):
    kept, counts = _run(draw_of(fresh_log), 200, gate_config, reference, draw_size=64)
    assert len(kept) == 200 and counts.to_dict()["complete"]
    assert not counts.removed["invalid"]


def test_gate_removes_planted_copies_of_real_users(
    real_log, fresh_log, reference, gate_config, draw_of
):
    copies = [_changed(record, source=1, user=-1) for record in real_log[:100]]
    kept, counts = _run(draw_of(copies), 50, gate_config, reference, draw_size=100)
    assert not kept and counts.removed == {"copy_of_real": 200} and not counts.to_dict()["complete"]


def test_gate_removes_near_copies_of_real_users_but_not_their_own_continuation(
    real_log, gate_config, draw_of, reference_sizes
):
    base = np.tile(np.arange(5, 65), 1)
    long_user = _changed(real_log[0], items=base, actions=np.zeros(60, int),
                         times=np.arange(60), sessions=np.zeros(60, int))  # fmt: skip
    reference = build_reference([long_user], gate_config, **reference_sizes)
    longer = {name: np.concatenate([long_user[name], long_user[name][-1:]]) for name in ALL}
    stranger = _changed(long_user, source=1, user=-1, **longer)
    own = _changed(long_user, source=1, **longer)
    config = replace(gate_config, **NO_QUOTA)
    kept, counts = _run(draw_of([stranger]), 1, config, reference, draw_size=1)
    assert not kept and counts.removed["near_copy_of_real"] == 1
    assert len(_run(draw_of([own]), 1, config, reference, draw_size=1)[0]) == 1
    unchanged = _changed(long_user, source=1)
    assert not _run(draw_of([unchanged]), 1, config, reference, draw_size=1)[0]


def test_gate_removes_copies_among_draws_within_and_over_batches(
    fresh_log, reference, gate_config, draw_of
):
    config = replace(gate_config, **NO_QUOTA, near_duplicate_jaccard=0.0)
    long_ones = [record for record in fresh_log if len(record["items"]) > 8][:10]
    kept, counts = _run(draw_of(long_ones), 20, config, reference, draw_size=15)
    assert len(kept) == 10 and counts.removed["copy_of_draw"] == counts.drawn - 10


@pytest.fixture
def near_copies(reference, fresh_log):
    """Three draws that differ in their last event."""
    base = np.random.default_rng(3).permutation(
        np.repeat(np.nonzero(reference.allowed_items)[0], 2)
    )
    draws = []
    for last in (5, 15, 25):
        items = base.copy()
        items[-1] = last
        fields = {name: np.arange(len(items)) * (name == "times") for name in ALL[1:]}
        draws.append(_changed(fresh_log[0], items=items, **fields))
    return draws


def test_gate_removes_near_copies_among_draws(reference, gate_config, draw_of, near_copies):
    config = replace(gate_config, **NO_QUOTA)
    kept, counts = _run(draw_of(near_copies), 3, config, reference, draw_size=3)
    assert len(kept) == 1 and counts.removed["near_copy_of_draw"] == 2


def test_similar_draws_of_a_block_are_merged_into_one_of_their_weight(
    fresh_log, reference, gate_config, draw_of, near_copies
):
    config = replace(gate_config, **NO_QUOTA, merge_similar=True)
    kept, counts = _run(draw_of(near_copies), 2, config, reference, draw_size=2)
    assert [record["weight"] for record in kept] == [8.0], "exact copies are merged too"
    assert kept[0]["weight"].dtype == np.float32
    assert counts.removed == {"merged_into_draw": 7}
    assert all(record["weight"] == 1.0 for record in near_copies), "draws are left alone"
    kept, counts = _run(draw_of(fresh_log), 100, config, reference)
    assert len(kept) == 100 and max(record["weight"] for record in kept) > 1
    assert counts.removed["merged_into_draw"] and not counts.removed["copy_of_draw"]


def test_copies_of_draws_that_were_handed_out_are_dropped(
    fresh_log, reference, gate_config, draw_of, near_copies
):
    config = replace(gate_config, **NO_QUOTA, merge_similar=True)
    long_one = max(fresh_log, key=lambda record: len(record["items"]))
    draws = draw_of([near_copies[0], near_copies[1], long_one])
    kept, counts = _run(draws, 2, config, reference, draw_size=1, block_size=1)
    assert [record["weight"] for record in kept] == [1.0, 1.0]
    assert counts.removed == {"near_copy_of_draw": 1}


def test_strategies_of_an_arm_share_the_index_of_draws(fresh_log, reference, gate_config, draw_of):
    drawn = UserIndex.empty(gate_config)
    config = replace(gate_config, **NO_QUOTA)
    first, _ = _run(draw_of(fresh_log[:50]), 30, config, reference, drawn=drawn, draw_size=50)
    second, counts = _run(draw_of(fresh_log[:50]), 30, config, reference, drawn=drawn, draw_size=50)
    assert first and not second


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: _changed(r, source=0),
        lambda r: _changed(r, items=np.where(np.arange(len(r["items"])) == 1, 4, r["items"])),
        lambda r: _changed(r, items=r["items"] + 1000),
        lambda r: _changed(r, items=-r["items"]),
        lambda r: _changed(r, actions=np.full(len(r["items"]), 3)),
        lambda r: _changed(r, times=r["times"][::-1].copy()),
        lambda r: _changed(r, weight=np.float32("nan")),
        lambda r: _changed(r, weight=np.float32(0)),
        lambda r: _changed(r, times=r["times"][:-1]),
    ],
)
def test_invalid_records_never_pass(spoil, fresh_log, reference, gate_config, draw_of):
    whole = next(record for record in fresh_log if len(record["items"]) > 9)
    config = replace(gate_config, **NO_QUOTA)
    assert len(_run(draw_of([whole]), 1, config, reference, draw_size=1)[0]) == 1
    for settings in (config, gate_config.validity_only()):
        kept, counts = _run(draw_of([spoil(whole)]), 1, settings, reference, draw_size=1)
        assert not kept and counts.removed == {"invalid": 4}


def test_items_unseen_in_training_pass_only_when_allowed(
    real_log, fresh_log, gate_config, draw_of, reference_sizes
):
    unseen = 64
    without = [record for record in real_log if unseen not in record["items"]]
    config = replace(gate_config, **NO_QUOTA)
    draws = [
        _changed(fresh_log[i], items=np.r_[fresh_log[i]["items"][:-1], unseen]) for i in range(9)
    ]
    strict = build_reference(without, config, **reference_sizes)
    assert _run(draw_of(draws), 9, config, strict, draw_size=9)[1].removed["invalid"] == 36
    open_ = build_reference(without, config, also_allowed=[unseen, 0], **reference_sizes)
    assert len(_run(draw_of(draws), 9, config, open_, draw_size=9)[0]) == 9
    assert not open_.allowed_items[0], "a special id is never allowed"


def test_short_records_are_removed(fresh_log, reference, gate_config, draw_of):
    config = replace(gate_config, **NO_QUOTA, min_len=5)
    kept, counts = _run(draw_of(fresh_log), 100, config, reference)
    assert min(len(record["items"]) for record in kept) == 5 and counts.removed["too_short"] > 0


def test_likelihood_band_removes_both_tails_and_nan(fresh_log, reference, gate_config, draw_of):
    def score(records):
        return np.array([-float(len(record["items"])) for record in records])

    band = fit_band(-np.arange(4.0, 10.0), (0.0, 1.0), score)
    assert (band.low, band.high) == (-9.0, -4.0)
    config = replace(gate_config, **NO_QUOTA)
    kept, counts = _run(draw_of(fresh_log), 60, config, reference, bands=[band])
    lengths = {len(record["items"]) for record in kept}
    assert lengths <= set(range(4, 10))
    assert counts.removed["below_likelihood_band"] and counts.removed["above_likelihood_band"]
    nan = ScoreBand(lambda records: np.full(len(records), np.nan), -1.0, 1.0)
    assert not _run(draw_of(fresh_log), 5, config, reference, bands=[nan])[0]


def test_quota_of_rare_items_is_met_by_drawing_more(fresh_log, reference, gate_config, draw_of):
    def rare_share(records):
        return sum(reference.rare_items[r["items"]].sum() for r in records) / sum(
            len(r["items"]) for r in records
        )

    free, _ = _run(
        draw_of(fresh_log), 80, replace(gate_config, **NO_QUOTA), reference, draw_size=32
    )
    quota = rare_share(free) + 0.04
    config = replace(gate_config, rare_item_quota=quota)
    kept, counts = _run(draw_of(fresh_log), 80, config, reference, draw_size=32)
    assert len(kept) == 80 and rare_share(kept) >= quota and not counts.to_dict()["quotas_missed"]
    assert counts.removed["too_little_for_quotas"] > 0 and counts.drawn > 96


def test_quota_out_of_reach_is_reported(fresh_log, reference, gate_config, draw_of):
    config = replace(gate_config, rare_item_quota=1.0)
    kept, counts = _run(draw_of(fresh_log), 60, config, reference, draw_size=32)
    assert len(kept) == 60 and counts.drawn >= 240
    assert counts.to_dict()["quotas_missed"] == {"rare_items": 1}


def test_draws_end_at_the_limit_and_with_a_dry_generator(
    fresh_log, reference, gate_config, draw_of
):
    config = replace(gate_config, **NO_QUOTA, max_draw_factor=2.0)
    kept, counts = _run(draw_of(fresh_log[:3]), 40, config, reference, draw_size=10)
    assert len(kept) <= 3 and counts.drawn == 80
    kept, counts = _run(lambda first, n: [], 40, config, reference)
    assert kept == [] and counts.drawn == 0


def test_gate_is_deterministic_and_leaves_draws_alone(fresh_log, reference, gate_config, draw_of):
    before = copy.deepcopy(fresh_log)
    runs = [_run(draw_of(fresh_log), 90, gate_config, reference)[0] for _ in range(2)]
    assert [id(record) for record in runs[0]] == [id(record) for record in runs[1]]
    for old, new in zip(before, fresh_log, strict=True):
        for name, value in old.items():
            np.testing.assert_array_equal(value, new[name])


def test_blocks_do_not_change_what_each_holds(fresh_log, reference, gate_config, draw_of):
    kept, counts = _run(
        draw_of(fresh_log), 150, gate_config, reference, draw_size=32, block_size=40
    )
    assert len(kept) == 150 and not counts.quotas_missed


def test_merging_needs_near_duplicates(gate_config):
    with pytest.raises(ValueError, match="merge_similar is True; must be False where near_dup"):
        replace(gate_config, near_duplicate_jaccard=0.0, merge_similar=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("near_duplicate_jaccard", 1.5),
        ("likelihood_band", (0.9, 0.1)),
        ("max_draw_factor", 0.5),
        ("discriminator_quantile", 1.0),
        ("category_floor", 1.5),
        ("category_cap", 0.5),
        ("cross_category_quota", -1.0),
    ],  # fmt: skip
)
def test_bad_settings_are_named(name, value, gate_config):
    with pytest.raises(ValueError, match=f"expansion.gate.{name}"):
        replace(gate_config, **{name: value})


def test_config_matches_the_default_config_file(gate_config):
    import sys

    sys.path.insert(0, ".")
    from configs.default import get_config

    assert GateConfig(**get_config().expansion.gate) == gate_config


def test_near_duplicates_can_be_switched_off(
    fresh_log, real_log, gate_config, draw_of, reference_sizes
):
    config = replace(gate_config, **NO_QUOTA, near_duplicate_jaccard=0.0)
    reference = build_reference(real_log, config, **reference_sizes)
    assert reference.users.near is None
    assert len(_run(draw_of(fresh_log), 20, config, reference)[0]) == 20


def test_slice_restarts_sessions_and_copies(real_log):
    whole = next(record for record in real_log if record["sessions"][-1] > 0)
    before = copy.deepcopy(whole)
    part = slice_record(whole, len(whole["items"]) - 1, len(whole["items"]))
    assert part["sessions"].tolist() == [0]
    part["items"][:] = 0
    np.testing.assert_array_equal(whole["items"], before["items"])
