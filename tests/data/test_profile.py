from collections import Counter

import numpy as np

from recjax.data.codes import NO_ITEM
from recjax.data.profile import make_profile, num_top_items, summarize

ACTIONS = ("search", "view", "buy")


def test_profile_is_that_of_brute_force(engine, store_events, random_log) -> None:
    rows = random_log(2)
    for row in rows[::9]:
        row |= {"item": NO_ITEM, "action": 0}
    profile = make_profile(engine, store_events(rows), ACTIONS, 600)
    per_user = np.sort(list(Counter(row["user"] for row in rows).values()))
    items = Counter(row["item"] for row in rows if row["item"] != NO_ITEM)
    named = Counter(ACTIONS[row["action"]] for row in rows)
    assert profile["actions"] == {name: named[name] for name in ACTIONS}
    assert (profile["events"], profile["users"], profile["items"]) == (
        400,
        len(per_user),
        len(items),
    )
    times = [row["timestamp"] for row in rows]
    assert (profile["first_time"], profile["last_time"]) == (min(times), max(times))
    spread = profile["events_per_user"]
    assert np.isclose(spread["mean"], per_user.mean()) and spread["max"] == per_user[-1]
    assert spread["median"] in (per_user[(len(per_user) - 1) // 2], per_user[len(per_user) // 2])
    assert np.isclose(profile["density"], sum(items.values()) / (len(per_user) * len(items)))
    most = np.cumsum(sorted(items.values(), reverse=True))
    assert profile["items_90pct_of_events"] == int(np.argmax(most >= 0.9 * most[-1])) + 1


def test_median_and_p90_are_values_that_occur() -> None:
    values, counts = np.array([1, 2, 50]), np.array([6, 3, 1])
    assert summarize(values, counts) == {"mean": 6.2, "median": 1, "p90": 2, "max": 50}
    assert summarize(np.array([], int), np.array([], int))["max"] == 0


def test_top_items_of_equal_ones() -> None:
    assert num_top_items(np.array([2]), np.array([10]), 0.9) == 9
    assert num_top_items(np.array([], int), np.array([], int), 0.9) == 0
