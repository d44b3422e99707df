"""Click examples of drawn users: what is shown beside what was taken, and with which label."""

from dataclasses import replace

import numpy as np
import pytest

from recjax.data.records import SCHEMAS, decode_record, encode_record
from recjax.expansion import ClickConfig, ClickMaker, next_item_log_scores
from recjax.expansion.records import make_record

PLAIN = ClickConfig(per_user=2, negatives=3, negative_kind="uniform", smoothing=0.0)


@pytest.fixture(scope="module")
def maker(real_log, generator):
    counts = np.bincount(np.concatenate([record["items"] for record in real_log]), minlength=65)
    return ClickMaker(PLAIN, generator, counts, 0, max_history=4)


def _impressions(maker, draws, **settings):
    """Examples in groups of one impression each, beside the draw that they are of."""
    maker = replace(maker, config=replace(maker.config, **settings))
    examples = list(maker.make(draws))
    groups, start = [], 0
    starts = [at for at, example in enumerate(examples) if example["label"] > 0.5]
    for start, stop in zip(starts, [*starts[1:], len(examples)], strict=True):
        groups.append(examples[start:stop])
    return groups


def test_an_impression_is_an_event_of_the_draw_and_items_that_it_has_not(maker, fresh_log):
    draws = fresh_log[:100]
    groups = _impressions(maker, draws)
    assert len(groups) == sum(min(2, len(draw["items"]) - 1) for draw in draws)
    at = 0
    for draw in draws:
        for _ in range(min(2, len(draw["items"]) - 1)):
            taken, *others = groups[at]
            at += 1
            places = np.flatnonzero(draw["times"] == taken["time"])
            (place,) = [p for p in places if draw["items"][p] == taken["item"]][:1]
            assert place >= 1
            for field in ("items", "actions", "times", "sessions"):
                expected = draw[field][max(0, place - 4) : place]
                np.testing.assert_array_equal(taken[field], expected)
            assert len(others) == 3 and len({other["item"] for other in others}) == 3
            for other in others:
                assert other["label"] == 0 and other["item"] not in draw["items"]
                assert maker.item_counts[other["item"]] > 0
                np.testing.assert_array_equal(other["items"], taken["items"])
    example = groups[0][0]
    schema = SCHEMAS["click"]
    assert decode_record(schema, encode_record(schema, example))["item"] == example["item"]


def test_a_users_impressions_depend_on_seed_and_number_alone(maker, fresh_log):
    all_of_them = [e["item"] for g in _impressions(maker, fresh_log[:40]) for e in g]
    first = [e["item"] for g in _impressions(maker, fresh_log[:20]) for e in g]
    assert all_of_them[: len(first)] == first
    other = replace(maker, seed=1)
    assert [e["item"] for g in _impressions(other, fresh_log[:20]) for e in g] != first


@pytest.mark.parametrize("kind", ["popularity", "hard"])
def test_items_beside_are_drawn_as_the_kind_says(kind, maker, fresh_log):
    """Their mean popularity, or log-odds, is above that of uniform ones."""

    def mean(kind):
        values = []
        for taken, *others in _impressions(maker, fresh_log[:100], negative_kind=kind):
            items = [other["item"] for other in others]
            if "popularity" in (kind, wanted):
                values += maker.item_counts[items].tolist()
            else:
                scores = next_item_log_scores(maker.generator, [taken], 1, 65, leave_out=False)
                values += scores[0][items].tolist()
        return np.mean(values)

    wanted = kind
    uniform = mean("uniform")
    assert mean(kind) > uniform + (2 if kind == "popularity" else 0.3)


def test_session_shows_what_the_user_did_less_with(maker):
    items, actions = np.array([7, 8, 9, 8, 10, 11]), np.array([0, 0, 0, 2, 1, 2])
    times = np.array([0, 10, 20, 30, 40, 9000])
    draw = make_record(items, actions, times, session_gap_seconds=1800) | {"source": 1}
    groups = _impressions(maker, [draw] * 40, negative_kind="session", per_user=5)
    shown = {}
    for taken, *others in groups:
        in_log = {other["item"] for other in others} & set(items)
        shown.setdefault((int(taken["time"]), taken["item"]), set()).update(in_log)
        assert len(others) == 3, "others are uniform ones"
    assert shown[30, 8] == {7, 9, 10} and shown[40, 10] == {7, 9}
    assert shown[10, 8] == shown[20, 9] == set() == shown[9000, 11]


def test_labels_are_smoothed_by_the_odds_among_the_shown(maker, fresh_log):
    plain, smooth = (
        _impressions(replace(maker, seed=3), fresh_log[:30], smoothing=share) for share in (0, 0.4)
    )
    examples = [example for group in plain for example in group]
    smoothed = [example for group in smooth for example in group]
    assert [e["item"] for e in examples] == [e["item"] for e in smoothed]
    at = 0
    for group in plain[:20]:
        size = len(group)
        scores = next_item_log_scores(maker.generator, group[:1], 1, 65, leave_out=False)[0]
        odds = np.exp(scores[[example["item"] for example in group]])
        expected = 0.6 * (np.arange(size) == 0) + 0.4 * odds / odds.sum()
        labels = [example["label"] for example in smoothed[at : at + size]]
        np.testing.assert_allclose(labels, expected, rtol=1e-4)
        at += size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"negative_kind": "easy"}, "clicks.negative_kind = 'easy' is unknown; known: uniform"),
        ({"negatives": 0}, "clicks.negatives is 0; give at least 1"),
        ({"per_user": -1}, "clicks.per_user is -1; give at least 0"),
        ({"smoothing": 1.5}, "clicks.smoothing is 1.5; must be from 0 to 1"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **change)
