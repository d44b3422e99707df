from dataclasses import replace

import numpy as np
import pytest

from recjax.expansion import ExpansionData, expand_arm, find_held_out, split_counts
from recjax.expansion.generate import split_users

MIX = {"hmm_users": 0.5, "hmm_continue": 0.5}


@pytest.fixture
def data(real_log, generator):
    return ExpansionData(real_log, 1800, 5, 16, generator)


def _expand(mix, ratio, seed, *args):
    records, counts = expand_arm(mix, ratio, seed, *args, draw_size=16)
    return list(records), counts


def test_arm_gives_marked_records_in_the_wanted_shares(data, reference, gate_config):
    records, counts = _expand(MIX, 0.5, 0, data, reference, gate_config)
    assert np.bincount([record["source"] for record in records]).tolist() == [0, 100, 100]
    assert all(record["weight"] == 1.0 for record in records)
    assert {name: count.kept for name, count in counts.items()} == dict.fromkeys(MIX, 100)
    sequences = {(*record["items"],) for record in records}
    assert len(sequences) == 200
    assert not sequences & {(*record["items"],) for record in data.source}


def test_same_seed_same_records_other_seed_other_records(data, reference, gate_config):
    runs = [_expand(MIX, 0.3, seed, data, reference, gate_config)[0] for seed in (0, 0, 1)]
    for left, right in zip(*runs[:2], strict=True):
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])
    assert [r["items"].tolist() for r in runs[0]] != [r["items"].tolist() for r in runs[2]]


def test_share_of_one_strategy_leaves_the_rows_of_another(data, reference, gate_config):
    alone, _ = _expand({"hmm_users": 1.0}, 0.2, 0, data, reference, gate_config)
    mixed, _ = _expand(MIX, 0.4, 0, data, reference, gate_config)
    for left, right in zip(alone, mixed[: len(alone)], strict=True):
        np.testing.assert_array_equal(left["items"], right["items"])


def test_control_arms_pass_the_gate_though_they_copy(data, reference, gate_config):
    records, counts = _expand({"repeat": 1.0}, 2.0, 0, data, reference, gate_config)
    assert len(records) == 800 and set(counts["repeat"].removed) <= {"not_needed"}
    assert {record["source"] for record in records} == {4}
    windows, counts = _expand({"sliding_window": 1.0}, 1.0, 0, data, reference, gate_config)
    assert len(windows) == 400


def test_likelihood_band_is_used(data, reference, gate_config):
    narrow = replace(gate_config, likelihood_band=(0.4, 0.6), rare_item_quota=0.0)
    _, counts = _expand({"hmm_users": 1.0}, 0.25, 0, data, reference, narrow)
    removed = counts["hmm_users"].removed
    assert removed["below_likelihood_band"] > 10 and removed["above_likelihood_band"] > 10


def test_discriminator_takes_out_what_looks_least_real(data, reference, gate_config):
    _, counts = _expand({"hmm_users": 1.0}, 0.25, 0, data, reference, gate_config)
    assert not counts["hmm_users"].removed["told_from_real"]
    strict = replace(gate_config, discriminator_quantile=0.3)
    runs = [_expand(MIX, 0.25, 0, data, reference, strict) for _ in range(2)]
    for name in MIX:
        assert runs[0][1][name].removed["told_from_real"] > 10
        assert runs[0][1][name].removed == runs[1][1][name].removed


def test_discriminator_learns_from_rows_that_are_never_kept(
    data, reference, gate_config, monkeypatch
):
    class Spoilt:
        """Half of its draws repeat one action; the gate's own rows start at 0."""

        name, judged_by, needs = "hmm_users", ("items",), ()
        rows = []

        def fit(self, data, seed):
            return data.source

        def draw(self, key, state, n, first_row):
            self.rows.append((first_row, n))
            fresh = [dict(state[row % 400], user=-1) for row in range(first_row, first_row + n)]
            return [
                {**r, "actions": r["actions"] * 0} if row % 2 else r for row, r in enumerate(fresh)
            ]

    spoilt = Spoilt()
    monkeypatch.setattr("recjax.expansion.arms.get_strategy", lambda name: spoilt)
    config = replace(
        gate_config, discriminator_quantile=0.1, drop_exact_duplicates=False,
        near_duplicate_jaccard=0.0, rare_item_quota=0.0, likelihood_band=(0.0, 1.0),
    )  # fmt: skip
    records, counts = _expand({"hmm_users": 1.0}, 0.5, 0, data, reference, config)
    spoiled = np.mean([len(r["items"]) > 3 and not r["actions"].any() for r in records])
    assert counts["hmm_users"].removed["told_from_real"] > 50 and spoiled < 0.2
    pilot, judged = spoilt.rows[: spoilt.rows.index((0, 16))], spoilt.rows[-1]
    assert pilot and min(first for first, _ in pilot) >= sum(judged)


def test_nothing_wanted_gives_nothing(data, reference, gate_config):
    records, counts = _expand(MIX, 0.0, 0, data, reference, gate_config)
    assert records == [] and counts["hmm_users"].drawn == 0


def test_held_out_users_are_known_of_arms_that_only_the_generator_feeds():
    np.testing.assert_array_equal(find_held_out(MIX, 100), split_users(100)[0])
    assert not len(find_held_out({**MIX, "sliding_window": 0.1}, 100))
    assert len(find_held_out({**MIX, "sliding_window": 0.0}, 100)) == 5


def test_counts_split_by_largest_remainder():
    assert split_counts({"hmm_users": 1, "repeat": 1, "hmm_continue": 1}, 10) == {
        "hmm_users": 4, "repeat": 3, "hmm_continue": 3
    }  # fmt: skip
    assert split_counts({"hmm_users": 0.0, "repeat": 0.2}, 7) == {"repeat": 7}
    for total in range(40):
        counts = split_counts({"hmm_users": 0.1, "repeat": 0.2, "hmm_continue": 0.7}, total)
        assert sum(counts.values()) == total


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"gan": 1.0}, "unknown strategy 'gan'"),
        ({"repeat": -1.0}, "share of strategy 'repeat' is -1.0"),
        ({"repeat": float("nan")}, "share of strategy"),
        ({"repeat": 0.0}, "needs a strategy"),
        ({}, "needs a strategy"),
    ],
)
def test_bad_mixes_are_named(mix, message):
    with pytest.raises(ValueError, match=message):
        split_counts(mix, 10)
