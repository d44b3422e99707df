import numpy as np
import pytest
from example_records import make_records

from recjax.data.record_sources import ListSource
from recjax.evaluation.robustness import ATTACKS, Attack, AttackedSource, robustness_curve

COUNTS = np.concatenate([np.zeros(5, int), 1 + np.arange(400)[::-1]])


@pytest.fixture(scope="module")
def source():
    return ListSource(make_records("next_item", 40))


def _spoiled(source, kind, share, **others):
    attacked = AttackedSource(source, Attack(kind, share, COUNTS, **others))
    return list(zip(source.__getitems__(range(40)), attacked.__getitems__(range(40)), strict=True))


@pytest.mark.parametrize("kind", ATTACKS)
def test_attack_spoils_the_history_and_nothing_else(kind, source):
    before = [record["items"].copy() for record in source.__getitems__(range(40))]
    for real, spoiled in _spoiled(source, kind, 0.5):
        assert set(spoiled) == set(real)
        for name in ("target_item", "target_time", "user"):
            assert spoiled[name] == real[name]
        np.testing.assert_array_equal(spoiled["seen"], real["seen"])
        length, count = len(real["items"]), round(0.5 * len(real["items"]))
        if kind == "noise":
            assert len(spoiled["items"]) == length
            assert (spoiled["items"] != real["items"]).sum() >= count - 1  # by chance the same
            np.testing.assert_array_equal(spoiled["times"], real["times"])
        else:
            assert all(len(spoiled[name]) == length + count for name in ("items", "times"))
            assert (np.diff(spoiled["times"]) >= 0).all()
            rest = iter(spoiled["items"])
            assert all(item in rest for item in real["items"]), "real events stay in order"
        assert spoiled["items"].dtype == real["items"].dtype
        added = np.setdiff1d(spoiled["items"], real["items"])
        assert real["target_item"] not in added and (COUNTS[added] > 0).all()
        if kind == "popularity":
            assert (added < 5 + 4).all(), "the hundredth part of 400 items"
    for old, record in zip(before, source.__getitems__(range(40)), strict=True):
        np.testing.assert_array_equal(old, record["items"])


@pytest.mark.parametrize("kind", ["clicks", "popularity"])
def test_new_events_of_a_small_share_are_among_those_of_a_larger_one(kind, source):
    pairs = zip(_spoiled(source, kind, 0.3), _spoiled(source, kind, 0.9), strict=True)
    for (_, some), (_, more) in pairs:
        rest = iter(more["items"])
        assert all(item in rest for item in some["items"])


def test_noise_of_a_small_share_is_part_of_that_of_a_larger_one(source):
    for (real, some), (_, more) in zip(
        _spoiled(source, "noise", 0.3), _spoiled(source, "noise", 0.9), strict=True
    ):
        changed = some["items"] != real["items"]
        np.testing.assert_array_equal(more["items"][changed], some["items"][changed])


def test_an_example_is_spoiled_alike_every_time_and_by_the_seed(source):
    first, again = (_spoiled(source, "clicks", 0.7) for _ in range(2))
    other = _spoiled(source, "clicks", 0.7, seed=1)
    for (_, left), (_, right) in zip(first, again, strict=True):
        np.testing.assert_array_equal(left["items"], right["items"])
    assert any((a[1]["items"] != b[1]["items"]).any() for a, b in zip(first, other, strict=True))
    attacked = AttackedSource(source, Attack("clicks", 0.7, COUNTS))
    np.testing.assert_array_equal(attacked[7]["items"], first[7][1]["items"])
    assert len(attacked) == 40


def test_curve_begins_clean_and_counts_what_is_kept(source):
    """A model that ranks the target by the number of events that are still its own."""
    seen = {}

    def rank(examples):
        records = examples.__getitems__(range(40))
        own = [np.isin(record["items"], record["seen"]).mean() for record in records]
        seen[len(seen)] = np.mean(own)
        return np.stack([20 * (1 - np.array(own)), 0 * np.array(own)])

    rows = robustness_curve(rank, source, COUNTS, shares=(0.2, 0.8), attacks=("noise", "clicks"))
    assert [(row["attack"], row["share"]) for row in rows] == [
        (kind, share) for kind in ("noise", "clicks") for share in (0.0, 0.2, 0.8)
    ]
    noise = [row["kept"] for row in rows[:3]]
    assert noise[0] == 1.0 > noise[1] > noise[2] and rows[0]["sd"] >= 0
    assert rows[0]["ndcg_at_10"] == rows[3]["ndcg_at_10"]
    assert len(seen) == 5, "the clean examples are ranked once"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("theft", 0.1, COUNTS), "attack 'theft' is unknown; known: noise, clicks, popularity"),
        (("noise", 1.5, COUNTS), "share of noise is 1.5; must be from 0 to 1"),
        (("clicks", -0.5, COUNTS), "share of clicks is -0.5; must be from 0 to 4"),
        (("clicks", 0.5, COUNTS[:6]), "two items or more"),
    ],
)
def test_wrong_attacks_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Attack(*arguments)
