"""Takes each guard of the edits away and sees a property check fail that holds with it."""

from dataclasses import replace

import numpy as np
import pytest
import strategy_properties as properties
from hard_users import SESSION_GAP, plant_hard_users

from recjax.expansion import ExpansionData
from recjax.expansion.generate.counted import find_place
from recjax.expansion.records import count_items
from recjax.expansion.similarity import SimilarityConfig, compare_vectors, count_co_visits
from recjax.expansion.strategy import draw_uniforms

pytestmark = pytest.mark.slow
NUM_IDS, EDIT = 65, "recjax.expansion.edit."
BROKEN = (AssertionError, IndexError, ValueError)  # numpy may fall over the record first


def always(*_, **__):
    return True


def no_sessions(times, session_gap_seconds):
    return np.zeros(len(times), np.int32)


def without_exclusion(chain, actions, place):
    odds = np.array(chain[1 + actions[place - 1] if place else 0])
    return odds * (chain[1:, actions[place + 1]] if place + 1 < len(actions) else 1)


def by_popularity(before, items, uniforms):
    return find_place(before, (uniforms * before[-1]).astype(int))


def as_it_is(record, max_len):
    return record


CHANGE = properties.check_edits_change_something
UNTOUCHED = properties.check_real_users_are_not_touched
FORMED = properties.check_draws_are_well_formed
ROWS = properties.check_rows_depend_on_key_and_number_only
SESSIONS = properties.check_sessions_follow_the_clock
GUARDS = [  # strategy, guard, what stands in its place, check that must fail
    ("reverse", EDIT + "reverse._can_reverse", always, CHANGE),
    ("reorder", EDIT + "reorder._can_reorder", always, CHANGE),
    ("reorder", EDIT + "reorder._shuffle", lambda items, uniforms: np.argsort(uniforms), CHANGE),
    (
        "reorder",
        EDIT + "reorder._find_stretches",
        lambda items, size: np.arange(len(items) - size + 1),
        CHANGE,
    ),
    ("crop", EDIT + "crop._can_crop", always, FORMED),
    ("subset_split", EDIT + "subset_split._can_drop", always, CHANGE),
    ("swap_noise", EDIT + "swap_noise.draw_others", by_popularity, CHANGE),
    ("swap_noise", EDIT + "swap_noise.count_items", lambda _: np.ones(NUM_IDS, int), FORMED),
    ("action_change", EDIT + "action_change.find_alternatives", without_exclusion, CHANGE),
    ("action_change", EDIT + "action_change._can_change", always, CHANGE),
    (
        "action_change",
        EDIT + "action_change.fit_chain",
        lambda _: np.ones((10, 9)),
        FORMED,
    ),
    ("gap_noise", EDIT + "gap_noise._make_differ", lambda new, old: new, CHANGE),
    ("gap_noise", EDIT + "gap_noise._can_stretch", always, properties.check_ties_stay_tied),
    ("gap_noise", EDIT + "gap_noise.compute_sessions", no_sessions, SESSIONS),
    ("insert", "recjax.expansion.records.compute_sessions", no_sessions, SESSIONS),
    ("splice", "recjax.expansion.records.compute_sessions", no_sessions, SESSIONS),
    ("insert", EDIT + "insert.take_recent", as_it_is, FORMED),
    ("crop", EDIT + "user_edits.take_recent", as_it_is, FORMED),
    ("splice", EDIT + "splice.is_crossed", always, CHANGE),
    *(
        (name, EDIT + "user_edits.take_recent", as_it_is, UNTOUCHED)
        for name in ("reorder", "reverse", "substitute", "swap_noise", "gap_noise", "action_change")
    ),
    *(
        (
            name,
            EDIT + "user_edits.draw_uniforms",
            lambda key, first_row, n, width: draw_uniforms(key, 0, n, width),
            ROWS,
        )
        for name in ("crop", "splice", "insert")
    ),
]


@pytest.fixture
def data(edit_config):
    source = plant_hard_users(0)
    similar = count_co_visits(source, NUM_IDS, SimilarityConfig("co_visit", 3, 1))
    return ExpansionData(source, SESSION_GAP, 5, 16, edits=edit_config, similar=similar)


def run(check, name, data):
    if check is UNTOUCHED:  # all users whole, so that nothing is copied by being cut
        data = replace(data, max_len=64)
    if check is ROWS:
        check(name, data)
    else:
        check(name, data, n=256)


@pytest.mark.parametrize(("name", "guard", "instead", "check"), GUARDS)
def test_property_fails_without_the_guard(name, guard, instead, check, data, monkeypatch):
    run(check, name, data)
    monkeypatch.setattr(guard, instead)
    with pytest.raises(BROKEN):
        run(check, name, data)


def compare_random_vectors(item_ids):
    vectors = np.random.default_rng(0).normal(size=(NUM_IDS, 3))
    return compare_vectors(vectors, item_ids, 2)


def test_no_item_may_resemble_itself(data, monkeypatch):
    seen = np.flatnonzero(count_items(data.source))
    run(CHANGE, "substitute", replace(data, similar=compare_random_vectors(seen)))
    monkeypatch.setattr("recjax.expansion.similarity._is_itself", lambda neighbours: False)
    with pytest.raises(AssertionError):
        run(CHANGE, "substitute", replace(data, similar=compare_random_vectors(seen)))


@pytest.mark.parametrize("name", ["substitute", "insert"])
def test_similar_items_must_have_been_seen(name, data):
    seen = np.flatnonzero(count_items(data.source))
    run(FORMED, name, replace(data, similar=compare_random_vectors(seen)))
    with pytest.raises(AssertionError):
        everything = compare_random_vectors(np.arange(NUM_IDS))
        run(FORMED, name, replace(data, similar=everything))
