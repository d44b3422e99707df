"""What must hold of the draws of strategies, as plain functions that raise AssertionError.

The tests of all strategies use them, and so do the tests that take a guard away and see them fail.
"""

import copy

import jax
import numpy as np

from recjax.expansion.records import SEQUENCE_FIELDS, compute_sessions
from recjax.expansion.registry import get_strategy


def draw(name, data, key=0, n=16, first_row=0):
    """Draws in pieces of 16 rows, so that the samplers compile once (pieces of 4 once more)."""
    strategy, size = get_strategy(name), min(n, 16)
    state = strategy.fit(data, 0)
    pieces = [
        strategy.draw(jax.random.key(key), state, size, first_row + start)
        for start in range(0, n, size)
    ]
    return [record for piece in pieces for record in piece][:n]


def assert_same(left, right):
    assert left["user"] == right["user"]
    for field in SEQUENCE_FIELDS:
        np.testing.assert_array_equal(left[field], right[field])


def check_rows_depend_on_key_and_number_only(name, data):
    whole = draw(name, data, n=16)
    for first, n in ((0, 4), (5, 4), (12, 4)):
        for offset, record in enumerate(draw(name, data, n=n, first_row=first)):
            assert_same(record, whole[first + offset])
    others = draw(name, data, key=1)
    assert any(len(a["items"]) != len(b["items"]) or (a["items"] != b["items"]).any()
               for a, b in zip(whole, others, strict=True))  # fmt: skip


def check_real_users_are_not_touched(name, data, n=32):
    """A draw must own its arrays: writing to it harms nobody."""
    before = copy.deepcopy(list(data.source))
    for record in draw(name, data, n=n):
        for field in SEQUENCE_FIELDS:
            record[field][...] = 0
    for old, new in zip(before, data.source, strict=True):
        assert_same(old, new)


def check_draws_are_well_formed(name, data, n=64):
    """No ids but those seen, no time running backwards, sessions that follow the clock."""
    seen = {
        field: np.unique(np.concatenate([record[field] for record in data.source]))
        for field in ("items", "actions")
    }
    for record in draw(name, data, n=n):
        length = len(record["items"])
        assert 1 <= length <= data.max_len
        assert all(len(record[field]) == length for field in SEQUENCE_FIELDS)
        assert (np.diff(record["times"]) >= 0).all()
        assert record["sessions"][0] == 0
        if name != "true_process":  # brings users from outside
            for field, known in seen.items():
                assert np.isin(record[field], known).all()
        if get_strategy(name).judged_by:
            assert record["times"].dtype == np.int64 and record["items"].dtype == np.int32


def check_sessions_follow_the_clock(name, data, n=64):
    """For edits that keep whole stretches of real users, or give them another clock."""
    for record in draw(name, data, n=n):
        sessions = compute_sessions(record["times"], data.session_gap_seconds)
        np.testing.assert_array_equal(record["sessions"], sessions)


def check_edits_change_something(name, data, n=64):
    """No draw is its own user, whole or by the last events that fit."""
    assert n
    for record in draw(name, data, n=n):
        real = find_user(data, record)
        same = [
            np.array_equal(record[field], real[field][-data.max_len :])
            for field in ("items", "actions", "times")
        ]
        assert not all(same)


def check_eligible_users_come_in_turn(name, data):
    """Every user that can be changed is, once before any twice."""
    state = get_strategy(name).fit(data, 0)
    drawn = [record["user"] for record in draw(name, data, n=len(state.users))]
    assert len(set(drawn)) == len(drawn) > 0


def check_ties_stay_tied(name, data, n=64):
    """Where an edit keeps all events and gives them another clock, one moment stays one moment."""
    for record in draw(name, data, n=n):
        times = find_user(data, record)["times"][-data.max_len :]
        if len(times) == len(record["times"]):
            assert not np.diff(record["times"])[np.diff(times) == 0].any()


def find_user(data, record):
    return next(real for real in data.source if real["user"] == record["user"])
