"""What each HMM strategy claims: the real events it keeps, where new ones stand, and when."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from recjax.expansion.gate.coverage import find_rare_items
from recjax.expansion.generate import HmmBasket, HmmFill, HmmPrefix, HmmTail
from recjax.expansion.generate.filling import _place_times
from recjax.expansion.generate.hmm_fill import _make_room
from recjax.expansion.generate.short_users import find_short_users
from recjax.expansion.records import compute_sessions, slice_record
from recjax.expansion.strategy import ExpansionData, pick_in_turn

SHORT, SESSION_GAP = 5, 1800
EVENTS = ("items", "actions", "times")


@pytest.fixture(scope="module")
def data(real_log, generator):
    counts = np.bincount(np.concatenate([record["items"] for record in real_log]), minlength=65)
    rare = find_rare_items(counts, counts > 0, 0.2)
    return ExpansionData(real_log, SESSION_GAP, SHORT, 16, generator, rare_items=rare)


def _draw(strategy, data, n=64):
    state = strategy.fit(data, 0)
    pieces = [strategy.draw(jax.random.key(0), state, 16, first) for first in range(0, n, 16)]
    return [record for piece in pieces for record in piece]


def _real(data, record):
    return next(real for real in data.source if real["user"] == record["user"])


def test_prefix_ends_with_the_real_history(data):
    records = _draw(HmmPrefix(), data)
    for record in records:
        real = _real(data, record)
        length = len(real["items"])
        assert length <= SHORT and len(record["items"]) > length
        for field in EVENTS:
            np.testing.assert_array_equal(record[field][-length:], real[field])
        sessions = compute_sessions(record["times"], SESSION_GAP)
        np.testing.assert_array_equal(record["sessions"], sessions)
    assert len({record["user"] for record in records}) == 64, "every short user in turn"
    assert len({len(record["items"]) for record in records}) > 5


def test_fill_keeps_both_ends_and_all_real_events_in_order(data):
    inside = 0
    for record in _draw(HmmFill(), data):
        real = _real(data, record)
        assert 2 <= len(real["items"]) <= SHORT < 16 and len(record["items"]) > len(real["items"])
        for field in EVENTS:
            assert record[field][0] == real[field][0] and record[field][-1] == real[field][-1]
        events = iter(zip(*(record[field] for field in EVENTS), strict=True))
        for event in zip(*(real[field] for field in EVENTS), strict=True):
            assert event in events
        inside += len(set(record["times"]) - set(real["times"]))
    assert inside > 100, "new events have times of their own"


def test_new_events_are_what_the_model_expects_there(data, category_of_item):
    """Users of the toy log mostly stay in a category; what is invented around them does too."""
    for strategy in (HmmPrefix(), HmmFill()):
        records = _draw(strategy, data)
        changes = [np.diff(category_of_item[record["items"]]) != 0 for record in records]
        assert np.concatenate(changes).mean() < 0.45  # 0.83 of items drawn at random


def test_users_grow_to_lengths_of_longer_real_users(data):
    short = find_short_users("x", data, 1, conditional=False)
    original = next(record for record in data.source if len(record["items"]) == 3)
    drawn = short.draw_lengths(jax.random.key(0), [original] * 8000, 0)
    lengths = np.array([len(record["items"]) for record in data.source])
    longer = np.bincount(lengths[lengths > 3], minlength=17)
    expected = 8000 * longer / longer.sum()
    seen = np.bincount(drawn, minlength=17)
    assert not seen[expected == 0].any()
    gaps = (seen - expected)[expected > 0] ** 2 / expected[expected > 0]
    assert gaps.sum() < 35  # chi-square, 9 degrees, p = 6e-5
    everybody = replace(data, source=[slice_record(record, 0, 3) for record in data.source])
    short = find_short_users("x", everybody, 1, conditional=False)
    assert (short.draw_lengths(jax.random.key(0), [original] * 9, 0) == 4).all()


def test_tail_users_contain_the_item_asked_for_every_rare_one_in_turn(data, generator):
    rare = np.flatnonzero(data.rare_items)
    records = _draw(HmmTail(), data, n=len(rare) + 16 - len(rare) % 16)
    indices = pick_in_turn(
        jax.random.fold_in(jax.random.key(0), 0), np.arange(len(rare)),
        np.flatnonzero(np.isin(generator.item_ids, rare)),
    )  # fmt: skip
    asked = generator.item_ids[indices]
    assert sorted(asked) == sorted(rare)
    assert all(item in record["items"] for item, record in zip(asked, records, strict=False))
    share = np.isin(np.concatenate([record["items"] for record in records]), rare).mean()
    real = np.isin(np.concatenate([record["items"] for record in data.source]), rare).mean()
    assert share > 2 * real


def test_nobody_short_and_nothing_rare_give_no_draws(data):
    long_only = replace(data, source=[r for r in data.source if len(r["items"]) > SHORT])
    nothing_rare = replace(data, rare_items=np.zeros(65, bool))
    assert not _draw(HmmPrefix(), long_only) and not _draw(HmmFill(), long_only)
    assert not _draw(HmmTail(), nothing_rare)


def test_no_repeats_holds_for_new_events_and_leaves_the_real_ones(data, generator):
    strict = replace(generator, config=replace(generator.config, no_repeats=True))
    for strategy in (HmmPrefix(), HmmFill()):
        repeated = 0
        for strict_record, free in zip(
            _draw(strategy, replace(data, generator=strict), n=32),
            _draw(strategy, data, n=32), strict=True,
        ):  # fmt: skip
            real = _real(data, strict_record)["items"]
            assert len(strict_record["items"]) == len(real) + len(set(free["items"]) - set(real))
            repeated += len(free["items"]) - len(strict_record["items"])
        assert repeated > 10


@pytest.mark.parametrize("strategy", [HmmPrefix(), HmmFill(), HmmTail(), HmmBasket()])
def test_explicit_durations_are_refused_by_name(strategy, data, generator):
    params = replace(generator.params, duration=np.ones((6, 3)) / 3)
    lasting = replace(generator, params=params, config=replace(generator.config, max_duration=3))
    with pytest.raises(ValueError, match=f"{strategy.name} .* hmm.max_duration is 3, must be 1"):
        strategy.fit(replace(data, generator=lasting), 0)


def test_fill_asks_for_two_events():
    data = ExpansionData([], SESSION_GAP, 1, 16)
    with pytest.raises(ValueError, match="hmm_fill needs data.generator"):
        HmmFill().fit(data, 0)


def test_times_are_as_drawn_and_who_would_come_too_late_has_no_room():
    real = np.array([1000, 2000])

    def place(real, places, seconds):
        times, has_room = _place_times(np.array(real), np.array(places), np.array(seconds))
        assert has_room[places].all()
        return times[has_room].tolist()

    assert place(real, [2, 3], [7, 30, 50, 9]) == [920, 950, 1000, 2000]
    assert place(real, [0, 3], [5, 99, 199, 3]) == [1000, 1099, 1298, 2000]
    assert place(real, [0, 3], [5, 999, 1999, 6999]) == [1000, 1999, 2000]
    assert place(real, [0, 3], [5, 1999, 1, 5999]) == [1000, 1250, 2000], "one finds room always"
    assert place([0, 10, 5000], [0, 2, 4], [0, 99, 0, 9999, 0]) == [0, 10, 5000 - 1, 5000]
    assert place([0, 10, 5000], [0, 2, 4], [0, 5, 0, 9999, 0]) == [0, 5, 10, 5000]
    assert place([5, 5], [1, 3], [0, 0, 0, 0]) == [5, 5, 5, 5]


def test_room_is_made_where_time_passed():
    times = np.array([0, 99, 399])
    uniforms = np.random.default_rng(0).random(10_000)
    counts = np.diff(_make_room(times, uniforms)) - 1
    assert counts.sum() == 10_000 and abs(counts[0] - 2494) < 200  # 100 of 401 seconds
    assert _make_room(times, np.zeros(2)).tolist() == [0, 3, 4]
    assert _make_room(times, np.full(2, 1 - 2.0**-53)).tolist() == [0, 1, 4]
    assert _make_room(np.array([7, 7]), np.array([0.5])).tolist() == [0, 2]
