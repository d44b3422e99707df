from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_properties import (
    assert_same,
    check_draws_are_well_formed,
    check_real_users_are_not_touched,
    check_rows_depend_on_key_and_number_only,
    draw,
    find_user,
)

from recjax.expansion.edit.user_edits import take_recent
from recjax.expansion.gate.coverage import find_rare_items
from recjax.expansion.generate import MaskedModel, NextItemModel
from recjax.expansion.generate.hmm_basket import find_baskets
from recjax.expansion.records import SEQUENCE_FIELDS, compute_sessions
from recjax.expansion.registry import STRATEGIES, get_source_index, get_strategy
from recjax.expansion.similarity import SimilarItems
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

SHORT, SESSION_GAP = 5, 1800
_MISSING = {
    "generator": "fitted HMM",
    "fresh_users": "simulated_shop",
    "rare_items": "rare",
    "edits": "settings of edits",
    "similar": "lists of similar items",
    "train_next_item": "a trainer",
    "load_masked": "a loader",
}


def suited(name, data):
    """The log as it is, or with several events at one time where a strategy draws baskets."""
    if name != "hmm_basket":
        return data
    return replace(data, source=[tie_events(record) for record in data.source])


def tie_events(record):
    """Every fourth time becomes that of the event before, and so does the next."""
    times = record["times"].copy()
    for place in range(1, len(times)):
        if place % 4 in (1, 2):
            times[place] = times[place - 1]
    return {**record, "times": times, "sessions": compute_sessions(times, SESSION_GAP)}


def _fresh_users(seed, first, n):
    def user(row):
        rng = np.random.default_rng([seed, row])
        times = 1_000_000 + np.cumsum(rng.integers(1, 5000, 4))
        return {
            "user": -1, "items": rng.integers(5, 65, 4).astype(np.int32),
            "actions": rng.integers(0, 3, 4).astype(np.int32), "times": times,
            "sessions": compute_sessions(times, SESSION_GAP), "weight": 1.0, "source": 0,
        }  # fmt: skip

    return [user(row) for row in range(first, first + n)]


@pytest.fixture(scope="module")
def data(real_log, generator, edit_config, similar):
    counts = np.bincount(np.concatenate([record["items"] for record in real_log]), minlength=65)
    return ExpansionData(
        real_log,
        SESSION_GAP,
        SHORT,
        16,
        generator,
        _fresh_users,
        rare_items=find_rare_items(counts, counts > 0, 0.2),
        edits=edit_config,
        similar=similar,
        train_next_item=_train_bigram,
        load_masked=_load_masked,
    )


def _train_bigram(name, seed):
    """A model of the next item that knows the last one alone, or the latent vector."""
    latent_dim = 65 if name == "sequence_vae" else 0
    return NextItemModel(_score_bigram, jnp.zeros((65, 65)), 65, 16, 16, 1.0, 0, latent_dim)


def _load_masked(seed):
    """A model that finds all items alike."""
    return MaskedModel(_score_alike, jnp.zeros(65), 65, 16, 16, 0.3, 0.3, 1.0, 0)


def _score_alike(params, batch, places):
    return jnp.broadcast_to(params[None], (len(places), 65))


def _score_bigram(params, batch):
    if "latent" in batch:
        return batch["latent"]
    places = batch["lengths"][:, None] - 1
    return params[jnp.take_along_axis(batch["items"], places, axis=1)[:, 0]]


@pytest.mark.parametrize("name", STRATEGIES)
def test_row_depends_on_key_and_number_only(name, data):
    check_rows_depend_on_key_and_number_only(name, suited(name, data))


@pytest.mark.parametrize("name", STRATEGIES)
def test_draw_never_touches_the_real_users(name, data):
    check_real_users_are_not_touched(name, suited(name, data))


@pytest.mark.parametrize("name", STRATEGIES)
def test_draws_are_well_formed(name, data):
    check_draws_are_well_formed(name, suited(name, data))


def test_continuation_keeps_the_real_history_and_adds_to_it(data):
    records = draw("hmm_continue", data, n=64)
    for record in records:
        real = find_user(data, record)
        length = len(real["items"])
        assert length <= SHORT < len(data.source[0]["items"]) and len(record["items"]) > length
        for field in SEQUENCE_FIELDS:
            np.testing.assert_array_equal(record[field][:length], real[field])
        np.testing.assert_array_equal(
            record["sessions"], compute_sessions(record["times"], SESSION_GAP)
        )
    assert len({record["user"] for record in records}) == 64, "every short user in turn"


def test_continuation_without_short_users_draws_nothing(data):
    long_only = replace(data, source=[r for r in data.source if len(r["items"]) > SHORT])
    assert list(draw("hmm_continue", long_only)) == []


def test_window_is_a_proper_stretch(data):
    sizes = set()
    for record in draw("sliding_window", data, n=128):
        real, size = find_user(data, record), len(record["items"])
        sizes.add(size)
        assert 2 <= size < len(real["items"])
        starts = [
            s for s in range(len(real["items"]) - size + 1)
            if (real["times"][s : s + size] == record["times"]).all()
            and (real["items"][s : s + size] == record["items"]).all()
        ]  # fmt: skip
        assert starts
    assert len(sizes) > 5


def test_subset_keeps_order_and_drops_something(data):
    for record in draw("subset_split", data, n=128):
        real = find_user(data, record)
        assert 2 <= len(record["items"]) < len(real["items"])
        events = list(zip(real["times"], real["items"], real["actions"], strict=True))
        places = iter(events)
        for event in zip(record["times"], record["items"], record["actions"], strict=True):
            assert event in places


def test_edits_without_long_users_draw_nothing(data):
    tiny = replace(data, source=[r for r in data.source if len(r["items"]) == 2])
    assert list(draw("sliding_window", tiny)) == [] and list(draw("subset_split", tiny)) == []


def test_edits_respect_the_greatest_length(data):
    short = replace(data, max_len=4)
    for name in ("sliding_window", "subset_split"):
        assert max(len(record["items"]) for record in draw(name, short, n=64)) <= 4


def test_baskets_are_drawn_anew_and_all_else_stays(data):
    tied = suited("hmm_basket", data)
    changed = 0
    for record in draw("hmm_basket", tied, n=64):
        real = take_recent(find_user(tied, record), 16)
        baskets = find_baskets(real["times"])
        assert (baskets >= 0).any()
        for time in np.unique(real["times"]):
            old, new = (r["items"][r["times"] == time] for r in (real, record))
            if (real["times"] == time).sum() == 1:
                np.testing.assert_array_equal(old, new)
            elif not np.array_equal(old, new):
                changed += 1
                assert 1 <= len(new) <= len(old) and len(set(new)) == len(new)
        stamps = iter(zip(real["times"], real["actions"], strict=True))
        for stamp in zip(record["times"], record["actions"], strict=True):
            assert stamp in stamps, "clock and actions stay"
    assert changed > 64
    assert list(draw("hmm_basket", data)) == [], "nobody did two things at once"


def test_walks_go_from_item_to_similar_item(data, similar):
    records = draw("similar_walk", data, n=256)
    begins = {int(record["items"][0]) for record in data.source}
    assert {int(record["items"][0]) for record in records} <= begins
    steps = [
        (record["items"][:place], record["items"][place])
        for record in records
        for place in range(1, len(record["items"]))
    ]
    lists = {item: set(similar.neighbours[item][: similar.has_any(np.array([item]))[0] * 99])
             for item in range(len(similar.ends))}  # fmt: skip
    near = np.mean([item in lists[int(before[-1])] for before, item in steps])
    known = np.mean([any(item in lists[int(old)] for old in before) for before, item in steps])
    assert known == 1.0 and 0.75 < near < 1.0


def test_a_walk_without_similar_items_begins_anew(data):
    nothing = SimilarItems(np.zeros((65, 2), np.int32), np.zeros((65, 2)))
    records = draw("similar_walk", replace(data, similar=nothing), n=64)
    begins = {int(record["items"][0]) for record in data.source}
    assert set(np.concatenate([record["items"] for record in records])) <= begins


def test_repeat_gives_every_user_once_before_any_twice(data):
    users = [record["user"] for record in draw("repeat", data, n=800)]
    assert sorted(users[:400]) == list(range(400)) and users[:400] == users[400:]
    assert users[:400] != sorted(users[:400])
    assert_same(draw("repeat", data, n=1)[0], data.source[users[0]])


def test_whole_users_resemble_the_log(data, real_log):
    draws = draw("hmm_users", data, n=256)
    real_length = np.mean([len(record["items"]) for record in real_log])
    assert abs(np.mean([len(record["items"]) for record in draws]) / real_length - 1) < 0.2
    gaps = [np.concatenate([np.diff(r["times"]) for r in log]) for log in (real_log, draws)]
    assert abs((gaps[0] > 1800).mean() - (gaps[1] > 1800).mean()) < 0.05


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_lives_on_what_it_says_it_needs_and_names_what_is_missing(name, data):
    strategy = get_strategy(name)
    unneeded = dict.fromkeys(set(_MISSING) - set(strategy.needs))
    strategy.fit(replace(data, **unneeded), 0)
    for need in strategy.needs:
        with pytest.raises(ValueError, match=f"{name} needs .*({_MISSING[need]})"):
            strategy.fit(replace(data, **{need: None}), 0)


def test_short_user_limit_must_leave_room(data):
    with pytest.raises(ValueError, match="short_user_events is 16"):
        get_strategy("hmm_continue").fit(replace(data, short_user_events=16), 0)


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(ValueError, match="'gan'; known are hmm_users, hmm_continue"):
        get_strategy("gan")
    assert get_source_index("hmm_users") == 1 and get_source_index("subset_split") == 6


def test_uniforms_fill_the_unit_interval_and_extend():
    numbers = draw_uniforms(jax.random.key(0), 0, 2000, 20)
    assert 0 <= numbers.min() and numbers.max() < 1 and len(np.unique(numbers)) == numbers.size
    counts = np.histogram(numbers, 50, (0, 1))[0]
    assert ((counts - 800) ** 2 / 800).sum() < 90  # chi-square, 49 degrees, p = 3e-4
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.08
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.08
    np.testing.assert_array_equal(draw_uniforms(jax.random.key(0), 5, 3, 4), numbers[5:8, :4])
    assert not (draw_uniforms(jax.random.key(1), 0, 9, 9) == numbers[:9, :9]).any()


def test_turns_shuffle_but_leave_nobody_out():
    picked = pick_in_turn(jax.random.key(0), np.arange(10), np.array([3, 5, 7, 9, 11]))
    assert sorted(picked[:5]) == [3, 5, 7, 9, 11] and (picked[:5] == picked[5:]).all()
