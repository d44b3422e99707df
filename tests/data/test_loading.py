"""The loader: packing, order, exact resume, processes, and batches that cover each example once."""

import json

import numpy as np
import pytest

from recjax.data.loading import (
    ClickTrainBatches,
    TrainBatches,
    click_batches,
    evaluation_batches,
    prefetch,
)
from recjax.data.order import MixedOrder, ShuffledOrder
from recjax.data.record_sources import ListSource

SIZES = {"batch_size": 4, "max_len": 8, "num_gap_bins": 16}


def make_record(user: int, length: int, source: int = 0) -> dict:
    """A sequence whose items name its user, so that a batch can be read back."""
    return {
        "user": user,
        "items": np.full(length, 5 + user, np.int32),
        "actions": np.arange(length, dtype=np.int32) % 3,
        "times": np.arange(length) * 60,
        "sessions": np.zeros(length, np.int32),
        "weight": 1.0 + user,
        "source": source,
    }


def make_source(num_users: int, seed: int = 0, source: int = 0, first: int = 0) -> ListSource:
    lengths = np.random.default_rng([seed]).integers(1, 11, num_users)
    return ListSource([make_record(first + u, int(n), source) for u, n in enumerate(lengths)])


def make_next_items(count: int) -> ListSource:
    extra = {"target_item": 7, "target_action": 1, "target_time": 10**6}
    records = [make_record(u, 1 + u % 12) for u in range(count)]
    seen = [np.arange(5, 6 + u, dtype=np.int32) for u in range(count)]
    return ListSource([dict(r, seen=s, **extra) for r, s in zip(records, seen, strict=True)])


def make_clicks(count: int) -> ListSource:
    records = []
    for user in range(count):
        extra = {"item": 5 + user, "time": 1_700_000_000 + user, "position": user % 3}
        extra |= {"label": float(user % 2), "propensity": 0.5}
        records.append(dict(make_record(user, user % 10), **extra))
    return ListSource(records)


def take(dataset, count: int) -> list[dict]:
    iterator = iter(dataset)
    return [next(iterator) for _ in range(count)]


def assert_same(left: dict, right: dict) -> None:
    assert sorted(left) == sorted(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        assert left[name].dtype == right[name].dtype


def users_of(batch: dict, member: int) -> list[int]:
    """Users of a batch, one per segment, row by row."""
    starts = (batch["positions"][member] == 0) & (batch["segments"][member] > 0)
    return (batch["items"][member][starts] - 5).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 2000])
def test_shuffled_order_is_a_new_permutation_each_epoch(size):
    order = ShuffledOrder(size, seed=3)
    epochs = [order.indices(e * size, size) for e in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    if size >= 100:
        assert epochs[0] != epochs[1] != epochs[2]
        assert ShuffledOrder(size, seed=4).indices(0, size) != epochs[0]
    assert order.indices(size // 2, size) == (epochs[0] + epochs[1])[size // 2 :][:size]


def test_packed_batches_take_every_user_once_an_epoch():
    source = make_source(50)
    batches = TrainBatches([[source]], seeds=[0], **SIZES)
    order = ShuffledOrder(50, 0).indices(0, 500)
    position = 0
    for batch in take(batches, 40):
        users = users_of(batch, 0)
        assert sorted(users) == sorted(order[position : position + len(users)])
        position += len(users)
    assert position > 100  # more than two epochs went by, nobody lost or repeated


def test_packed_batch_holds_the_events_weights_and_sources():
    source = make_source(30, source=2)
    (batch,) = take(TrainBatches([[source]], seeds=[1], **SIZES), 1)
    for name in ("items", "actions", "gaps", "positions", "segments", "sources"):
        assert batch[name].shape == (1, 4, 8) and batch[name].dtype == np.int32
    mask = batch["segments"] > 0
    assert batch["weights"].dtype == np.float32
    np.testing.assert_array_equal(batch["weights"], np.where(mask, batch["items"] - 4, 0))
    np.testing.assert_array_equal(batch["sources"], np.where(mask, 2, 0))
    assert mask.mean() > 0.6
    for user in users_of(batch, 0):
        length = min(8, len(source[user]["items"]))
        assert (batch["items"] == 5 + user).sum() == length
    gaps = batch["gaps"][mask & (batch["positions"] > 0)]
    assert set(gaps.tolist()) == {6}  # 1 + floor(log2(61))


def test_first_user_without_room_opens_the_next_batch():
    source = ListSource([make_record(u, 5) for u in range(9)])
    batches = take(TrainBatches([[source]], seeds=[0], **SIZES), 2)
    order = ShuffledOrder(9, 0).indices(0, 8)
    assert [users_of(b, 0) for b in batches] == [order[:4], order[4:]]


def test_plain_batches_hold_one_user_a_row():
    source = make_source(30)
    (batch,) = take(TrainBatches([[source]], pack=False, seeds=[5], **SIZES), 1)
    assert users_of(batch, 0) == ShuffledOrder(30, 5).indices(0, 4)
    assert set(np.unique(batch["segments"])) <= {0, 1}
    assert (batch["positions"][0, :, 0] == 0).all()


@pytest.mark.parametrize("pack", [True, False])
def test_random_runs_of_long_users_cover_all_their_events(pack):
    records = [make_record(u, 3 + 6 * u) for u in range(4)]  # 3, 9, 15 and 21 events
    source = ListSource([dict(r, actions=np.arange(len(r["items"]))) for r in records])
    options = {"pack": pack, "seeds": [7], **SIZES}
    batches = take(TrainBatches([[source]], long_users="random", **options), 100)
    seen = {user: set() for user in range(4)}
    for batch in batches:
        items, actions, positions = (batch[k][0] for k in ("items", "actions", "positions"))
        for user in seen:
            mine = items == 5 + user
            starts = actions[mine] - positions[mine]  # the same on all events of a run
            seen[user] |= set(starts.tolist())
    assert seen == {0: {0}, 1: {0, 1}, 2: set(range(8)), 3: set(range(14))}
    again = take(TrainBatches([[source]], long_users="random", **options), 100)
    for left, right in zip(batches, again, strict=True):
        assert_same(left, right)


def test_members_have_their_own_sources_and_order():
    real = make_source(20)
    synthetic = [make_source(10, seed=s, source=1, first=100 * (s + 1)) for s in range(2)]
    batches = TrainBatches([[real, synthetic[0]], [real, synthetic[1]]], seeds=[3, 4], **SIZES)
    users = [set(), set()]
    for batch in take(batches, 20):
        for member in range(2):
            users[member] |= set(users_of(batch, member))
            drawn = batch["items"][member] >= 105
            np.testing.assert_array_equal(batch["sources"][member], drawn)
    assert users[0] == set(range(20)) | set(range(100, 110))
    assert users[1] == set(range(20)) | set(range(200, 210))


def test_member_does_not_depend_on_the_other_members():
    source = make_source(20)
    (pair,) = take(TrainBatches([[source], [source]], seeds=[3, 4], **SIZES), 1)
    (alone,) = take(TrainBatches([[source]], seeds=[4], **SIZES), 1)
    assert_same({name: values[1:] for name, values in pair.items()}, alone)


@pytest.mark.parametrize("num_prefetched", [0, 3])
@pytest.mark.parametrize("kind", ["packed", "plain", "mixed", "click"])
def test_resume_is_exact(kind, num_prefetched):
    def make():
        if kind == "mixed":
            return prefetch(make_mixed(lambda batch: batch % 8 / 8), num_prefetched)
        if kind == "click":
            made = ClickTrainBatches([[make_clicks(11)]] * 2, seeds=[0, 1], **SIZES)
        else:
            sources = [[make_source(23)], [make_source(23, 1)]]
            made = TrainBatches(sources, pack=kind == "packed", seeds=[0, 1], **SIZES)
        return prefetch(made, num_prefetched)

    expected = take(make(), 12)
    iterator = iter(make())
    for _ in range(5):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    resumed = iter(make())
    resumed.set_state(state)
    assert resumed.get_state() == state
    for batch in expected[5:]:
        assert_same(next(resumed), batch)
    resumed.set_state(state)  # back again, over what was made ahead
    assert_same(next(resumed), expected[5])
    iterator.close()
    resumed.close()


def make_mixed(share, pack=True, rows=None):
    """Two members, 20 real and 10 synthetic records each; synthetic users begin at 100."""
    real = make_source(20)
    sources = [[real, make_source(10, seed=s, source=1, first=100)] for s in range(2)]
    return TrainBatches(sources, seeds=[3, 4], pack=pack, rows=rows, synthetic_share=share, **SIZES)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_share_of_synthetic_records_is_what_it_says(share):
    """In each batch to one record, in the mean nearly exactly; no kind skips or repeats a user."""
    users = [users_of(batch, 0) for batch in take(make_mixed(lambda batch: share), 200)]
    for batch in users:
        assert abs(sum(user >= 100 for user in batch) - share * len(batch)) < 1
    everyone = np.array([user for batch in users for user in batch])
    assert (everyone >= 100).mean() == pytest.approx(share, abs=0.01)
    for kind in (everyone[everyone < 100], everyone[everyone >= 100]):
        counts = np.unique(kind, return_counts=True)[1]
        assert not len(counts) or len(counts) in (20, 10) and np.ptp(counts) <= 2  # ends of batches


def test_share_follows_the_number_of_the_batch():
    warm_up = make_mixed(lambda batch: float(batch < 3), pack=False)
    drawn = [(batch["sources"] == 1).any(axis=2) for batch in take(warm_up, 6)]
    assert [rows.all() for rows in drawn] == [True] * 3 + [False] * 3
    assert not np.any(drawn[3:])


def test_mixed_order_is_that_of_its_kinds_whatever_the_batch_took():
    order = MixedOrder((7, 5), seed=1, share=lambda batch: (batch % 3) / 2)
    position, taken = [0, 0], []
    for batch in range(30):
        count = 3 + batch % 4
        taken += order.take(position, batch, range(count))
        assert order.take(position, batch, [1, 2]) == taken[-count:][1:3]
        position = order.after(position, batch, count)
    assert sum(position) == len(taken)
    real, drawn = ([n for n in taken if (n >= 7) == kind] for kind in (False, True))
    assert sorted(real[:7]) == list(range(7)) and sorted(drawn[:5]) == list(range(7, 12))
    with pytest.raises(ValueError, match="no records"):
        MixedOrder((7, 0), seed=1, share=lambda batch: 0.5)


def test_set_state_refuses_another_number_of_members():
    iterator = iter(TrainBatches([[make_source(5)]], seeds=[0], **SIZES))
    with pytest.raises(ValueError, match="2 members, the data 1"):
        iterator.set_state({"batches": 0, "positions": [[0], [0]]})


# rows of the global batch of four that each process feeds; not always neighbours
SHARES = ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0], [1], [2], [3]])


def join(parts: list[dict], rows: list[list[int]], axis: int) -> dict:
    """Puts the rows of all processes back in their places."""
    order = np.argsort(np.concatenate(rows))
    names = parts[0]
    return {
        n: np.take(np.concatenate([p[n] for p in parts], axis=axis), order, axis=axis)
        for n in names
    }


@pytest.mark.parametrize("rows", SHARES)
@pytest.mark.parametrize("pack", [True, False])
def test_processes_share_the_rows_of_one_over_the_ends_of_epochs(pack, rows):
    """So no user is lost or repeated: the global batch is the one that a process alone makes."""
    options, source = {"pack": pack, "seeds": [0], **SIZES}, make_source(11)
    whole = take(TrainBatches([[source]], **options), 12)
    parts = [take(TrainBatches([[source]], rows=r, **options), 12) for r in rows]
    assert sum(len(users_of(batch, 0)) for batch in whole) > 3 * 11
    for batch, *shares in zip(whole, *parts, strict=True):
        assert_same(join(shares, rows, axis=1), batch)
        assert batch["row"].tolist() == [[0, 1, 2, 3]]
    mixed = [take(make_mixed(lambda batch: 0.5, pack, r), 12) for r in (None, *rows)]
    for batch, *shares in zip(*mixed, strict=True):
        assert_same(join(shares, rows, axis=1), batch)


@pytest.mark.parametrize("rows", SHARES)
def test_processes_share_click_and_evaluation_batches_uneven_last_ones_included(rows):
    clicks, next_items = make_clicks(13), make_next_items(13)
    whole = take(ClickTrainBatches([[clicks]], seeds=[0], **SIZES), 9)
    parts = [take(ClickTrainBatches([[clicks]], seeds=[0], rows=r, **SIZES), 9) for r in rows]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert_same(join(shares, rows, axis=1), batch)
    for make, source in ((evaluation_batches, next_items), (click_batches, clicks)):
        parts = [list(make(source, rows=r, **SIZES)) for r in rows]
        for batch, *shares in zip(list(make(source, **SIZES)), *parts, strict=True):
            assert_same(join(shares, rows, axis=0), batch)


def test_evaluation_batches_cover_each_example_once():
    source = make_next_items(10)
    batches = list(evaluation_batches(source, **SIZES))
    assert [b["row_mask"].sum() for b in batches] == [4, 4, 2]
    users = np.concatenate([b["user"][b["row_mask"]] for b in batches])
    assert users.tolist() == list(range(10))
    for batch in batches:
        assert batch["history"].shape == (4, 64)
        for row in np.flatnonzero(batch["row_mask"]):
            record = source[int(batch["user"][row])]
            length = min(8, len(record["items"]))
            assert batch["lengths"][row] == length
            assert (batch["segments"][row] > 0).sum() == length
            history = batch["history"][row]
            assert history[history > 0].tolist() == record["seen"].tolist()
            assert batch["target"][row] == 7
        padding = ~batch["row_mask"]
        for name in ("items", "segments", "lengths", "target", "history"):
            assert not batch[name][padding].any()


def test_evaluation_history_widens_for_long_users_or_stays_as_asked():
    record = dict(make_next_items(1)[0], seen=np.arange(5, 105, dtype=np.int32))
    (wide,) = evaluation_batches(ListSource([record]), **SIZES)
    assert wide["history"].shape == (4, 128)
    (narrow,) = evaluation_batches(ListSource([record]), history_len=10, **SIZES)
    assert narrow["history"][0].tolist() == list(range(95, 105))


def test_click_batches_cover_each_example_once_and_compute_the_context():
    source = make_clicks(10)
    batches = list(click_batches(source, **SIZES))
    assert [b["row_mask"].sum() for b in batches] == [4, 4, 2]
    assert np.concatenate([b["user"][b["row_mask"]] for b in batches]).tolist() == list(range(10))
    for batch in batches:
        np.testing.assert_array_equal(batch["weight"] > 0, batch["row_mask"])
        for row in np.flatnonzero(batch["row_mask"]):
            record = source[int(batch["user"][row])]
            assert batch["candidate"][row] == record["item"]
            assert batch["label"][row] == record["label"]
            assert batch["position"][row] == record["position"]
            assert (batch["hour"][row], batch["weekday"][row]) == (22, 1)  # 2023-11-14, a Tuesday
            expected = 15 if len(record["items"]) else 0
            assert batch["candidate_gap"][row] == expected


def test_no_examples_give_no_batches():
    assert list(evaluation_batches(ListSource([]), **SIZES)) == []
    assert list(click_batches(ListSource([]), **SIZES)) == []


def test_click_training_batches_repeat_no_example_within_an_epoch():
    batches = take(ClickTrainBatches([[make_clicks(12)]], seeds=[2], **SIZES), 6)
    items = np.concatenate([b["candidate"][0] for b in batches])
    assert sorted(items[:12]) == sorted(items[12:]) == list(range(5, 17))
    assert items[:12].tolist() != items[12:].tolist()
    assert batches[0]["label"].dtype == batches[0]["weight"].dtype == np.float32
    assert batches[0]["items"].shape == (1, 4, 8)


def test_wrong_arguments_are_named():
    source = make_source(3)
    with pytest.raises(ValueError, match="1 members' sources but 2 seeds"):
        TrainBatches([[source]], seeds=[0, 1], **SIZES)
    for rows in ([], [-1, 0], [3, 4], [1, 0], [2, 2]):
        with pytest.raises(ValueError, match="not ascending rows of a batch of 4"):
            TrainBatches([[source]], seeds=[0], rows=rows, **SIZES)
    with pytest.raises(ValueError, match="no records"):
        TrainBatches([[ListSource([])]], seeds=[0], **SIZES)
    with pytest.raises(ValueError, match="long_users must be 'last' or 'random', got 'first'"):
        TrainBatches([[source]], seeds=[0], long_users="first", **SIZES)
