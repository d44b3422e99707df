"""What each edit of real users claims and keeps, users that are hard to change among them."""

from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from hard_users import SESSION_GAP, plant_hard_users, plant_user
from strategy_properties import (
    check_draws_are_well_formed,
    check_edits_change_something,
    check_eligible_users_come_in_turn,
    check_real_users_are_not_touched,
    check_sessions_follow_the_clock,
    check_ties_stay_tied,
    draw,
    find_user,
)

from configs import default
from recjax.expansion import ExpansionData, expand_arm
from recjax.expansion.edit import EditConfig
from recjax.expansion.edit.action_change import find_alternatives, fit_chain
from recjax.expansion.edit.swap_noise import draw_others
from recjax.expansion.edit.user_edits import Editor, count_share, take_recent
from recjax.expansion.generate.counted import sum_before
from recjax.expansion.records import SEQUENCE_FIELDS
from recjax.expansion.registry import STRATEGIES, get_strategy
from recjax.expansion.similarity import SimilarityConfig, count_co_visits

EDITS = [name for name, strategy in STRATEGIES.items() if isinstance(strategy, Editor)]
KEEP_CLOCK = ("reorder", "reverse", "substitute", "swap_noise", "action_change")
MAX_LEN = 16


@pytest.fixture(scope="module")
def data(real_log, edit_config, similar, category_of_item):
    source = [*real_log, *plant_hard_users(len(real_log))]
    return ExpansionData(
        source,
        SESSION_GAP,
        5,
        MAX_LEN,
        edits=edit_config,
        similar=similar,
        item_category=category_of_item,
    )


@pytest.fixture(scope="module")
def hard(data, category_of_item):
    source, config = data.source[-30:], SimilarityConfig("co_visit", 3, 1)
    similar = count_co_visits(source, len(category_of_item), config)
    return replace(data, source=source, similar=similar)


def pairs(name, data, n=400):
    """Draws beside the last events of their users."""
    records = draw(name, data, n=n)
    assert len(records) == n
    return [(take_recent(find_user(data, record), MAX_LEN), record) for record in records]


def events(record, start=0, stop=None):
    return list(zip(*(record[field][start:stop] for field in SEQUENCE_FIELDS[:3]), strict=True))


@pytest.mark.parametrize("name", EDITS)
def test_edits_keep_their_promises_on_hard_users(name, hard):
    check_edits_change_something(name, hard, n=256)
    check_draws_are_well_formed(name, hard, n=256)
    check_real_users_are_not_touched(name, hard, n=64)
    check_eligible_users_come_in_turn(name, hard)
    check_ties_stay_tied(name, hard, n=256)
    if name != "subset_split":
        check_sessions_follow_the_clock(name, hard, n=256)


@pytest.mark.parametrize("name", EDITS)
def test_users_that_cannot_be_changed_give_no_draws(name, data):
    for source in ([], [plant_user(0, [7]), plant_user(1, [7])]):
        similar = count_co_visits(source, 8, SimilarityConfig("co_visit", 3, 1))
        assert list(draw(name, replace(data, source=source, similar=similar))) == []


@pytest.mark.parametrize("name", EDITS)
def test_edits_respect_the_greatest_length(name, data):
    longest = max(len(record["items"]) for record in draw(name, replace(data, max_len=4), n=64))
    assert 2 <= longest <= 4


@pytest.mark.parametrize("name", KEEP_CLOCK)
def test_edits_of_content_keep_the_clock_and_the_gate_knows_it(name, data):
    for real, record in pairs(name, data, n=64):
        np.testing.assert_array_equal(record["times"], real["times"])
        np.testing.assert_array_equal(record["sessions"], real["sessions"])


def test_crop_is_a_stretch_of_the_share(data):
    starts = set()
    for real, record in pairs("crop", data):
        length = len(real["items"])
        size = count_share(data.edits.crop_share, length, 2, length - 1)
        assert len(record["items"]) == size
        start = next(s for s in range(length) if events(real, s, s + size) == events(record))
        starts.add(start / (length - size))
    assert {0.0, 1.0} <= starts and len(starts) > 5


def test_reorder_shuffles_one_stretch_and_nothing_else(data):
    moved_actions = 0
    for real, record in pairs("reorder", data):
        length = len(real["items"])
        size = count_share(data.edits.reorder_share, length, 2, length)
        both = [list(zip(r["items"], r["actions"], strict=True)) for r in (real, record)]
        assert Counter(both[0]) == Counter(both[1])
        changed = [place for place in range(length) if both[0][place] != both[1][place]]
        assert changed and changed[-1] - changed[0] < size
        moved_actions += (real["actions"] != record["actions"]).any()
    assert moved_actions > 100


def test_reverse_is_the_mirror_image(data):
    for real, record in pairs("reverse", data):
        for field in ("items", "actions"):
            np.testing.assert_array_equal(record[field], real[field][::-1])


def test_substitute_puts_in_similar_items_at_the_share_of_places(data):
    for real, record in pairs("substitute", data):
        changed = np.flatnonzero(record["items"] != real["items"])
        able = int(data.similar.has_any(real["items"]).sum())
        wanted = count_share(data.edits.substitute_share, len(real["items"]), 1, able)
        assert len(changed) == wanted
        for old, new in zip(real["items"][changed], record["items"][changed], strict=True):
            assert new in data.similar.neighbours[old]
        np.testing.assert_array_equal(record["actions"], real["actions"])


def test_insert_puts_similar_events_between_those_that_stay(data):
    for real, record in pairs("insert", data):
        most = int(MAX_LEN / (1 + data.edits.insert_share))
        stays, places = events(take_recent(real, most)), []
        for place, event in enumerate(events(record)):
            if stays and event == stays[0]:
                stays.pop(0)
            else:
                places.append(place)
        assert not stays and places
        number = count_share(
            data.edits.insert_share, len(record["items"]) - len(places), 1, len(places)
        )
        assert len(places) == number
        for place in places:
            old, new = record["items"][place - 1], record["items"][place]
            assert new in data.similar.neighbours[old]
            assert record["actions"][place] == record["actions"][place - 1]
            assert record["times"][place] <= record["times"][place + 1]


def test_swap_noise_changes_the_share_of_places(data):
    for real, record in pairs("swap_noise", data):
        length = len(real["items"])
        changed = (record["items"] != real["items"]).sum()
        assert changed == count_share(data.edits.swap_share, length, 1, length)
        np.testing.assert_array_equal(record["actions"], real["actions"])


def test_swapped_items_follow_popularity_without_their_own():
    counts, number = np.array([0, 5, 0, 3, 1, 11]), 20_000
    uniforms = np.random.default_rng(0).random(number)
    for item in (1, 3, 4, 5):
        drawn = draw_others(sum_before(counts), np.full(number, item), uniforms)
        others = np.where(np.arange(6) == item, 0, counts)
        expected = others / others.sum() * number
        found = np.bincount(drawn, minlength=6)
        assert not found[others == 0].any()
        left = expected > 0
        assert ((found - expected)[left] ** 2 / expected[left]).sum() < 18  # 3 degrees, p < 1e-3


def test_gap_noise_stretches_gaps_and_ends_when_the_user_did(data):
    factors = []
    for real, record in pairs("gap_noise", data):
        for field in ("items", "actions"):
            np.testing.assert_array_equal(record[field], real[field])
        assert record["times"][-1] == real["times"][-1]
        gaps, stretched = np.diff(real["times"]), np.diff(record["times"])
        factors.extend(stretched[gaps > 1000] / gaps[gaps > 1000])
    logs = np.log(factors)
    assert abs(logs.mean()) < 0.05 and abs(logs.std() - data.edits.gap_scale) < 0.05


def test_action_change_takes_steps_of_the_log_only(data):
    chain, changes = fit_chain(data.source), 0
    for real, record in pairs("action_change", data):
        for field in ("items", "times"):
            np.testing.assert_array_equal(record[field], real[field])
        actions = record["actions"]
        assert (chain[np.concatenate([[0], 1 + actions[:-1]]), actions] > 0).all()
        changes += (actions != real["actions"]).sum() / len(actions)
    assert abs(changes / 400 - data.edits.action_share) < 0.1


def test_new_actions_have_the_odds_of_what_lies_around_them():
    actions = [[0, 1, 2], [0, 1, 2], [0, 2, 2], [0, 1, 0], [1, 2, 0]]
    log = [plant_user(user, [7, 8, 9], actions=actions[user]) for user in range(5)]
    chain = fit_chain(log)
    np.testing.assert_allclose(chain[0], [4 / 5, 1 / 5, 0])
    np.testing.assert_allclose(chain[1], [0, 3 / 4, 1 / 4])
    step = chain[1:]
    odds = find_alternatives(chain, np.array([0, 1, 2]), 1)
    np.testing.assert_allclose(odds, [0, 0, step[0, 2] * step[2, 2]])
    odds = find_alternatives(chain, np.array([0, 1, 2]), 0)
    np.testing.assert_allclose(odds, [0, chain[0, 1] * step[1, 1], chain[0, 2] * step[2, 1]])
    odds = find_alternatives(chain, np.array([0, 1, 2]), 2)
    np.testing.assert_allclose(odds, [step[1, 0], 0, 0])


def find_parents(data, record, key_of_item):
    """All (place, other user, event) that explain a splice, by trying every one."""
    real = take_recent(find_user(data, record), MAX_LEN)
    explained = []
    for place in range(1, len(real["items"])):
        head = events(real, max(0, place + 1 - MAX_LEN // 2), place + 1)
        if events(record, 0, len(head)) != head:
            continue
        items, times = record["items"][len(head) :], record["times"][len(head) :]
        for other in data.source:
            for event in np.flatnonzero(
                key_of_item[other["items"]] == key_of_item[real["items"][place]]
            ):
                tail = slice(event + 1, event + 1 + MAX_LEN - len(head))
                delay = real["times"][place] - other["times"][event]
                if other["user"] != real["user"] and (
                    np.array_equal(other["items"][tail], items)
                    and np.array_equal(other["times"][tail] + delay, times)
                ):
                    explained.append((place, other, event))
    return explained


@pytest.mark.parametrize("by", ["item", "category"])
def test_splice_joins_two_users_where_they_meet(by, data, category_of_item):
    data = replace(data, edits=replace(data.edits, splice_by=by))
    keys = category_of_item if by == "category" else np.arange(len(category_of_item))
    crossed = 0
    for _, record in pairs("splice", data, n=48):
        parents = find_parents(data, record, keys)
        assert parents
        crossed += all(
            other["items"][event] not in find_user(data, record)["items"]
            for _, other, event in parents
        )
    assert (crossed > 0) == (by == "category")


def test_splice_by_category_needs_categories(data):
    by_category = replace(data, edits=replace(data.edits, splice_by="category"))
    for category in (None, np.zeros(99, int)):
        with pytest.raises(ValueError, match="splice_by = 'category' needs item categories"):
            get_strategy("splice").fit(replace(by_category, item_category=category), 0)


@pytest.mark.parametrize("name", EDITS)
def test_edits_pass_the_gate(name, data, reference, gate_config):
    data = replace(data, source=data.source[:400])
    records, counts = expand_arm({name: 1.0}, 0.25, 0, data, reference, gate_config)
    assert len(list(records)) == counts[name].kept == 100
    assert "invalid" not in counts[name].removed


OTHER_SETTINGS = {
    "crop_share": ("crop", 0.3),
    "reorder_share": ("reorder", 0.9),
    "substitute_share": ("substitute", 0.8),
    "insert_share": ("insert", 0.8),
    "swap_share": ("swap_noise", 0.8),
    "gap_scale": ("gap_noise", 1.0),
    "action_share": ("action_change", 0.8),
    "splice_by": ("splice", "category"),
}


def test_every_setting_of_edits_is_tested():
    assert set(OTHER_SETTINGS) == set(default.get_config().expansion.edits)


@pytest.mark.parametrize("key", OTHER_SETTINGS)
def test_setting_of_edits_changes_its_strategy(key, data):
    name, value = OTHER_SETTINGS[key]
    others = draw(name, replace(data, edits=replace(data.edits, **{key: value})), n=32)
    assert any(
        events(left) != events(right)
        for left, right in zip(draw(name, data, n=32), others, strict=True)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_share": 1.0}, "edits.crop_share is 1; must be below 1"),
        ({"swap_share": 0.0}, "edits.swap_share is 0.0; must be above 0 and at most 1"),
        ({"insert_share": float("nan")}, "edits.insert_share is nan"),
        ({"gap_scale": 3.0}, "edits.gap_scale is 3.0; must be above 0 and at most 2.0"),
        ({"splice_by": "brand"}, "edits.splice_by = 'brand' is unknown; known: item, category"),
    ],
)
def test_bad_settings_of_edits_are_named(change, message, edit_config):
    with pytest.raises(ValueError, match=message):
        EditConfig(**{**asdict(edit_config), **change})
