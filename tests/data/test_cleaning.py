from collections import Counter, defaultdict

import numpy as np
import pytest

from recjax.data import cleaning
from recjax.data.codes import NO_ITEM, CodedLog
from recjax.errors import UserError

START = 1_700_000_000


def rows_left(engine, table) -> set[int]:
    return {row["row"] for row in engine.rows(table.select("row"))}


def brute_force_core(rows, user_core, item_core) -> set[int]:
    kept = [row for row in rows if row["item"] != NO_ITEM]
    while True:
        users, items = Counter(r["user"] for r in kept), Counter(r["item"] for r in kept)
        left = [r for r in kept if users[r["user"]] >= user_core and items[r["item"]] >= item_core]
        if len(left) == len(kept):
            break
        kept = left
    users = {row["user"] for row in kept}
    searches = {r["row"] for r in rows if r["item"] == NO_ITEM and r["user"] in users}
    return {row["row"] for row in kept} | searches


@pytest.mark.parametrize("seed", range(3))
def test_duplicates_keep_the_first_row(engine, store_events, random_log, seed) -> None:
    rows = random_log(seed)
    for row in rows[::7]:
        row["item"] = NO_ITEM  # searches repeat too
    first: dict[tuple, int] = {}
    for row in rows:
        key = (row["user"], row["item"], row["action"], row["timestamp"])
        first.setdefault(key, row["row"])
    table, removed = cleaning.drop_duplicates(engine, store_events(rows), True)
    assert removed == len(rows) - len(first) > 0
    assert rows_left(engine, table) == set(first.values())
    assert cleaning.drop_duplicates(engine, table, False) == (table, 0)


@pytest.mark.parametrize(("user_core", "item_core"), [(1, 1), (5, 1), (1, 8), (9, 8), (14, 14)])
def test_core_is_that_of_brute_force(
    engine, store_events, random_log, user_core, item_core
) -> None:
    rows = random_log(5, num_rows=250, num_users=25, num_items=30)
    for row in rows[::11]:
        row["item"] = NO_ITEM
    table, _ = cleaning.keep_core(engine, store_events(rows), user_core, item_core)
    expected = brute_force_core(rows, user_core, item_core)
    if (user_core, item_core) == (1, 1):
        expected = {row["row"] for row in rows}
    assert rows_left(engine, table) == expected


def test_core_goes_on_until_it_is_stable(engine, store_events) -> None:
    """A chain: every round takes one user and one item, until nobody is left."""
    chain = [(user, item) for user in range(6) for item in (user, user + 1)][1:]
    rows = [
        {"row": i, "user": u, "item": v, "action": 1, "timestamp": START}
        for i, (u, v) in enumerate(chain, 1)
    ]
    table, rounds = cleaning.keep_core(engine, store_events(rows), 2, 2)
    assert rows_left(engine, table) == set() and rounds > 3


def test_clocks_at_the_bounds_stay(engine, store_events) -> None:
    rows = [
        {"row": t, "user": 0, "item": 0, "action": 1, "timestamp": t} for t in (9, 10, 15, 20, 21)
    ]
    kept = cleaning.drop_impossible_clocks(store_events(rows), 10, 20)
    assert rows_left(engine, kept) == {10, 15, 20}


@pytest.mark.parametrize(
    ("step", "resolution"), [(1, 1), (60, 60), (7200, 3600), (86400, 86400), (3660, 60)]
)
def test_resolution_of_the_clock(engine, store_events, step, resolution) -> None:
    rows = [
        {"row": i, "user": 0, "item": 0, "action": 1, "timestamp": START + 7 + i * step}
        for i in range(1, 9)
    ]
    assert cleaning.time_resolution(engine, store_events(rows)) == resolution


def shoppers() -> list[dict]:
    """User 0 is human; 1 has 61 events in a minute; 2 has 2001 in a day; 3 clicks like a clock."""
    rng = np.random.default_rng(0)
    times = {
        0: START + np.cumsum(rng.integers(5, 4000, 200)),
        1: START // 60 * 60 + np.arange(61) % 60,
        2: START // 86400 * 86400 + np.linspace(0, 86399, 2001).astype(int),
        3: START + np.arange(60) * 3000 + rng.integers(0, 3, 60),
        4: START + np.arange(20) * 3000,  # regular, but too few events to tell
        5: START + np.zeros(55, int),  # all at once: no gap, no pattern
    }
    times[2] = times[2] + rng.integers(-20, 20, 2001).clip(0)
    return [
        {"row": 10_000 * user + i, "user": user, "item": i, "action": 1, "timestamp": int(t)}
        for user, some in times.items()
        for i, t in enumerate(some)
    ]


@pytest.mark.parametrize(
    ("changes", "resolution", "bots"),
    [
        ({}, 1, {1, 2, 3}),
        ({"bot_max_events_per_minute": 0}, 1, {2, 3}),
        ({"bot_max_events_per_day": 0}, 1, {1, 3}),
        ({"bot_min_gap_regularity": 0.0}, 1, {1, 2}),
        ({"bot_max_events_per_minute": 61, "bot_min_events": 61}, 1, {2}),
        ({}, 60, {2, 3}),
        ({}, 86400, set()),
        ({}, 0, set()),
    ],
)
def test_bots_by_rate_and_pattern(
    engine, store_events, make_settings, changes, resolution, bots
) -> None:
    settings = make_settings("", {f"prepare.cleaning.{key}": v for key, v in changes.items()})
    found = cleaning.find_bots(store_events(shoppers()), settings.cleaning, resolution)
    assert {row["user"] for row in engine.rows(found)} == bots


def coded(events, has_clock=True) -> CodedLog:
    return CodedLog(events, events, events, has_clock)  # ids are not looked at


def test_counts_of_all_rules_add_up(engine, store_events, make_settings, random_log) -> None:
    rows = random_log(1) + [
        row | {"row": row["row"] + 1000, "user": row["user"] + 50} for row in shoppers()
    ]
    rows += [
        rows[0] | {"row": 900, "timestamp": 5},
        rows[0] | {"row": 901, "timestamp": 4_000_000_000},
    ]
    rows += [rows[0] | {"row": 902, "user": 99}]
    cleaned = cleaning.clean_events(engine, coded(store_events(rows)), make_settings().cleaning)
    assert cleaned.removed["impossible_clock"] == 2
    assert cleaned.removed["bot"] == 61 + 2001 + 60 and cleaned.facts["bot_users"] == 3
    assert cleaned.removed["below_core"] == 1
    left = engine.count(cleaned.events)
    assert left == len(rows) - sum(cleaned.removed.values())
    per_user = defaultdict(int)
    for row in engine.rows(cleaned.events):
        per_user[row["user"]] += 1
    assert min(per_user.values()) >= 2 and not {51, 52, 53, 99} & set(per_user)


def test_order_only_log_knows_no_clock_rules(engine, store_events, make_settings) -> None:
    rows = [
        {"row": i, "user": i % 2, "item": i, "action": 1, "timestamp": i // 2} for i in range(200)
    ]
    cleaned = cleaning.clean_events(
        engine, coded(store_events(rows), has_clock=False), make_settings().cleaning
    )
    assert engine.count(cleaned.events) == 200 and cleaned.removed == {"below_core": 0}


def test_nothing_left_says_which_rule_took_it(
    engine, store_events, make_settings, random_log
) -> None:
    settings = make_settings("", {"prepare.cleaning.user_core": 10_000})
    with pytest.raises(UserError, match=r"none of 400 .*below_core 3\d\d.*user_core"):
        cleaning.clean_events(engine, coded(store_events(random_log(0))), settings.cleaning)
