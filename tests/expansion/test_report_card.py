import copy
import json

import numpy as np
import pytest

from recjax.expansion import fidelity
from recjax.expansion.checks import Check, grade_checks
from recjax.expansion.records import slice_record
from recjax.expansion.report_card import make_report_card
from recjax.expansion.statistics import LogSpec, count_halves, count_log, rank_categories


@pytest.fixture
def make_card(real_log, reference, gate_config, category_of_item):
    def make(synthetic, categories=None, held_out=()):
        return make_report_card(
            real_log, synthetic, reference, gate_config,
            category_of_item=category_of_item if categories is None else categories,
            num_gap_bins=16, max_len=20, action_names=["view", "cart", "buy", "share"],
            category_names=lambda category: f"category {category}", held_out=held_out,
        )  # fmt: skip

    return make


def _check(card, name):
    return next(check for check in card["checks"] if check["name"] == name)


def _edit(log, change):
    return [{**copy.deepcopy(record), **change(record)} for record in log]


def test_users_of_the_same_process_get_an_a(make_card, fresh_log):
    card = make_card(fresh_log)
    assert card["grade"] == "A", card["reasons"]
    assert all(check["grade"] != "poor" for check in card["checks"])


def test_card_is_json_with_the_arrays_of_the_plots(make_card, fresh_log):
    card = json.loads(json.dumps(make_card(fresh_log), allow_nan=False))
    plots = card["plots"]
    assert set(plots) == {
        "lengths", "actions", "action_transitions", "gaps", "popularity", "category_transitions",
        "nearest",
    }  # fmt: skip
    for plot in plots.values():
        assert np.shape(plot["real"]) == np.shape(plot["synthetic"])
    assert plots["category_transitions"]["names"][-1] == "other"
    assert plots["category_transitions"]["names"][0].startswith("category ")
    assert np.allclose(np.sum(plots["lengths"]["real"]), 1, atol=1e-4)
    assert len(plots["popularity"]["rank"]) == len(plots["popularity"]["real"])


def test_mode_collapse_is_caught(make_card, fresh_log):
    card = make_card([fresh_log[i % 3] for i in range(400)])
    assert _check(card, "copies of draws")["grade"] == "poor"
    assert _check(card, "coverage")["grade"] != "good" and card["grade"] == "D"


def test_collapse_to_few_items_is_caught_though_no_draw_copies_another(make_card, fresh_log):
    few = _edit(fresh_log, lambda r: {"items": 5 + r["items"] % 7})
    card = make_card(few)
    assert _check(card, "coverage")["grade"] == _check(card, "popularity")["grade"] == "poor"
    assert _check(card, "discriminator")["grade"] == "poor" and card["grade"] == "D"


def test_copied_users_are_caught_under_any_name(make_card, fresh_log, real_log):
    for user in (-1, None):
        copies = _edit(real_log[:20], lambda r, user=user: {} if user is None else {"user": user})
        card = make_card(fresh_log[:380] + copies)
        assert _check(card, "copies of real users")["grade"] == "poor" and card["grade"] == "D"


def test_nearly_copied_users_are_caught(make_card, fresh_log, real_log, reference):
    long_ones = [record for record in real_log if len(record["items"]) == 13]
    near = _edit(long_ones, lambda r: {"items": np.r_[r["items"][:-1], 5]})
    card = make_card(fresh_log + near)
    assert card["copies"]["near_real"] + card["copies"]["of_real"] > 0


def test_shuffled_order_is_caught(make_card, fresh_log):
    rng = np.random.default_rng(0)

    def shuffle(record):
        order = rng.permutation(len(record["items"]))
        return {"items": record["items"][order], "actions": record["actions"][order]}

    card = make_card(_edit(fresh_log, shuffle))
    assert _check(card, "order of categories")["grade"] == "poor"
    assert _check(card, "order of items")["grade"] == "poor"
    assert _check(card, "discriminator")["grade"] != "good"
    assert card["grade"] == "D"


def test_shuffled_order_is_caught_without_categories(make_card, fresh_log, category_of_item):
    rng = np.random.default_rng(0)
    shuffled = _edit(fresh_log, lambda r: {"items": rng.permutation(r["items"])})
    card = make_card(shuffled, categories=np.zeros_like(category_of_item))
    assert _check(card, "order of items")["grade"] == "poor"
    assert "not judged" in _check(card, "order of categories")["reason"]


def test_slightly_changed_real_users_are_caught_by_nearness_and_membership(
    make_card, fresh_log, real_log
):
    held_out = np.arange(0, 400, 8)
    changed = _edit(
        [record for user, record in enumerate(real_log) if user % 8],
        lambda r: {"items": np.r_[r["items"][:-1], 5], "user": -1},
    )
    card = make_card(changed, held_out=held_out)
    assert _check(card, "nearest real users")["grade"] == "poor"
    assert _check(card, "membership")["grade"] == "poor" and card["grade"] == "D"
    fine = make_card(fresh_log, held_out=held_out)
    assert _check(fine, "membership")["grade"] == "good"
    assert fine["privacy"]["held_out_users"] == 50
    assert "not judged" in _check(make_card(fresh_log), "membership")["reason"]


def test_reordered_real_users_are_caught(make_card, fresh_log, real_log):
    rng = np.random.default_rng(0)
    reordered = _edit(real_log[:80], lambda r: {"items": rng.permutation(r["items"])})
    assert _check(make_card(fresh_log[:320] + reordered), "reordered real users")["grade"] == "poor"
    assert _check(make_card(fresh_log), "reordered real users")["grade"] == "good"


def test_flattened_popularity_is_caught(make_card, fresh_log):
    rng = np.random.default_rng(0)
    card = make_card(_edit(fresh_log, lambda r: {"items": rng.integers(5, 65, len(r["items"]))}))
    assert _check(card, "popularity")["grade"] == "poor"


def test_truncated_lengths_are_caught(make_card, fresh_log):
    card = make_card([slice_record(record, 0, 4) for record in fresh_log])
    assert _check(card, "lengths")["grade"] == "poor"


def test_shifted_actions_and_gaps_are_caught(make_card, fresh_log):
    card = make_card(
        _edit(fresh_log, lambda r: {"actions": r["actions"] * 0, "times": 7 * r["times"]})
    )
    assert _check(card, "actions")["grade"] == _check(card, "gaps")["grade"] == "poor"


def test_ids_from_outside_the_training_part_are_caught(
    make_card, fresh_log, real_log, gate_config, category_of_item, reference_sizes
):
    from recjax.expansion.gate import build_reference

    validation_item = 40
    training = [record for record in real_log if validation_item not in record["items"]]
    reference = build_reference(training, gate_config, **reference_sizes)
    card = make_report_card(
        training, fresh_log, reference, gate_config, category_of_item=category_of_item,
        num_gap_bins=16, max_len=20, action_names=list("abcd"),
    )  # fmt: skip
    expected = sum(int((record["items"] == validation_item).sum()) for record in fresh_log)
    assert expected > 0 and _check(card, "foreign ids")["value"] == expected
    assert card["grade"] == "D"


@pytest.mark.parametrize("bad", [0, 4, 65, 10**6, -3])
def test_special_and_unknown_ids_are_caught(bad, make_card, fresh_log):
    spoiled = _edit(fresh_log[:1], lambda r: {"items": np.r_[bad, r["items"][1:]]})
    card = make_card(fresh_log[1:] + spoiled)
    assert _check(card, "foreign ids")["value"] == 1 and card["grade"] == "D"


def test_nothing_drawn_is_a_poor_card(make_card):
    card = make_card([])
    assert card["grade"] == "D" and "no synthetic user" in card["reasons"][0]
    json.dumps(card, allow_nan=False)


def test_card_reads_and_does_not_write(make_card, fresh_log, real_log):
    before = copy.deepcopy([real_log, fresh_log])
    first, second = make_card(fresh_log), make_card(fresh_log)
    assert first == second
    for old_log, new_log in zip(before, [real_log, fresh_log], strict=True):
        for old, new in zip(old_log, new_log, strict=True):
            np.testing.assert_array_equal(old["items"], new["items"])


def test_statistics_match_brute_force_and_add_up(real_log, category_of_item):
    counts = np.bincount(np.concatenate([r["items"] for r in real_log]), minlength=65)
    cells, names = rank_categories(category_of_item, counts, limit=4)
    assert len(names) == 4 and cells.max() == 4
    spec = LogSpec(cells, 5, 4, 16, 20)
    log = count_log(real_log, spec)
    left, right = count_halves(real_log, spec)
    both = left + right
    for name in ("users", "events", "repeats", "lengths", "actions", "gaps", "items",
                 "action_pairs", "category_pairs", "near_pairs", "far_pairs"):  # fmt: skip
        np.testing.assert_array_equal(getattr(log, name), getattr(both, name))
    np.testing.assert_array_equal(log.items, counts)
    pairs, actions, expected, repeats = np.zeros((5, 5), int), np.zeros((4, 4), int), 0.0, 0
    for record in real_log:
        own = cells[record["items"]]
        np.add.at(pairs, (own[:-1], own[1:]), 1)
        np.add.at(actions, (record["actions"][:-1], record["actions"][1:]), 1)
        repeats += len(own) - len(np.unique(record["items"]))
        same = sum(own[i] == own[j] for i in range(len(own)) for j in range(len(own)) if i != j)
        expected += same / len(own)
    np.testing.assert_array_equal(log.category_pairs, pairs)
    np.testing.assert_array_equal(log.action_pairs, actions)
    assert log.repeats == repeats and np.isclose(log.same_expected, expected)


def test_repeats_do_not_count_as_order(real_log, category_of_item):
    spec = LogSpec(category_of_item.astype(np.int32), 7, 4, 16, 20)
    same = count_log(_edit(real_log, lambda r: {"items": np.full_like(r["items"], 9)}), spec)
    assert same.near_pairs.sum() == 0 and same.repeats > 0
    assert count_log(real_log, spec).near_pairs.sum() > 0


def test_statistics_of_random_order_show_no_order(real_log, category_of_item):
    rng = np.random.default_rng(0)
    spec = LogSpec(category_of_item.astype(np.int32), 7, 4, 16, 20)
    shuffled = count_log(_edit(real_log, lambda r: {"items": rng.permutation(r["items"])}), spec)
    assert abs(fidelity.compute_category_order(shuffled)) < 0.03
    assert fidelity.compute_category_order(count_log(real_log, spec)) > 0.15


def test_distances_have_hand_values():
    assert fidelity.compute_jensen_shannon(np.array([1, 0]), np.array([0, 3])) == 1.0
    assert fidelity.compute_jensen_shannon(np.array([1, 2]), np.array([2, 4])) == 0.0
    assert fidelity.compute_total_variation(np.array([1, 0]), np.array([1, 1])) == 0.5
    assert fidelity.compute_wasserstein(np.array([1, 0, 0]), np.array([0, 0, 5])) == 2.0
    assert np.isclose(fidelity.compute_effective_items(np.array([2, 2, 0, 2])), 3.0)
    assert np.isclose(fidelity.compute_coverage(np.array([1, 1]), np.array([100, 0])), 0.5)


def test_grade_follows_its_rules():
    def check(grade, fatal=False):
        return Check("x", 0.0, None, grade, fatal, "why")

    good, fair, poor = (check(grade) for grade in ("good", "fair", "poor"))
    assert grade_checks([good, fair])[0] == "A"
    assert grade_checks([fair, fair])[0] == "B"
    assert grade_checks([poor, good])[0] == "C"
    assert grade_checks([poor, poor])[0] == "D"
    assert grade_checks([check("poor", fatal=True)]) == ("D", ["poor: why"])
