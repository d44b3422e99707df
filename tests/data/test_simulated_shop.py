"""The simulated shop as others see it: tables, files, determinism, bots and spoiled rows."""

import collections

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recjax.data.simulated_shop import ACTIONS, START_TIME, ShopConfig, SimulatedShop
from recjax.errors import UserError

SMALL = ShopConfig(
    num_users=300, num_items=100, num_days=30, seed=3, dirty_share=0.1, bot_share=0.04
)


@pytest.fixture(scope="module")
def shop() -> SimulatedShop:
    return SimulatedShop(SMALL)


@pytest.fixture(scope="module")
def events(shop) -> pa.Table:
    return pa.Table.from_batches(shop.event_batches())


def true_events(shop: SimulatedShop, **changes) -> pa.Table:
    clean = {"dirty_share": 0.0, "bot_share": 0.0, **changes}
    config = ShopConfig(**{**vars(shop.config), **clean})
    return pa.Table.from_batches(SimulatedShop(config).event_batches())


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_users", 0), ("num_items", 39), ("num_days", 6), ("dirty_share", 0.6), ("seed", -1)],
)
def test_config_out_of_range_names_key_and_value(field, value):
    with pytest.raises(UserError, match=rf"simulated_shop\.{field} is {value}"):
        ShopConfig(**{field: value})


def test_default_size_is_as_promised():
    shop = SimulatedShop(ShopConfig())
    events = pa.Table.from_batches(shop.event_batches())
    impressions = sum(batch.num_rows for batch in shop.impression_batches())
    assert 25_000 < events.num_rows < 40_000
    assert 20_000 < impressions < 40_000
    counts = np.array(list(collections.Counter(events["user_id"].to_pylist()).values()))
    assert 0.25 < (counts < 5).mean() < 0.5  # a long tail of short users
    assert counts.max() > 100


def test_batch_size_does_not_change_rows(shop, events):
    assert pa.Table.from_batches(shop.event_batches(batch_users=37)).equals(events)
    whole = pa.Table.from_batches(shop.impression_batches())
    assert pa.Table.from_batches(shop.impression_batches(batch_users=41)).equals(whole)
    assert pa.Table.from_batches(shop.user_batches(batch_users=7)).equals(shop.users())


def test_single_user_blocks_survive_bots(shop, events):
    parts = [batch for batch, _ in zip(shop.event_batches(batch_users=1), range(60), strict=False)]
    head = pa.Table.from_batches(parts)
    assert head.equals(events.slice(0, head.num_rows))


def test_seed_changes_everything(shop, events):
    other = SimulatedShop(ShopConfig(**{**vars(SMALL), "seed": 4}))
    assert not other.catalogue()["title"].equals(shop.catalogue()["title"])
    assert not pa.Table.from_batches(other.event_batches()).equals(events)


def test_write_is_byte_equal_and_whole(shop, events, tmp_path):
    first, second = shop.write(tmp_path / "a"), SimulatedShop(SMALL).write(tmp_path / "b")
    assert sorted(first) == ["catalogue", "events", "graph", "impressions", "users"]
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()
    assert pq.read_table(first["events"]).equals(events)
    assert pq.read_table(first["users"]).equals(shop.users())
    assert len(list((tmp_path / "a").iterdir())) == 5


def test_write_that_fails_leaves_nothing(shop, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        shop.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_catalogue_words_carry_category_brand_and_style(shop):
    catalogue = shop.catalogue().to_pylist()
    assert [row["item_id"] for row in catalogue[:2]] == ["i000000", "i000001"]
    for row in catalogue:
        path = row["category"].split(" > ")
        assert len(path) in (2, 3)
        assert row["title"].startswith(row["brand"] + " ")
        assert row["title"].endswith(path[-1])
        assert len(row["image_vector"]) == 16
    vectors = np.array([row["image_vector"] for row in catalogue])
    red = np.array(["red" in row["title"].split() for row in catalogue])
    style = shop.world.vector[red]
    assert red.any() and (np.arctan2(style[:, 1], style[:, 0]) % (2 * np.pi) < np.pi / 4).all()
    same = shop.world.leaf[:, None] == shop.world.leaf
    distance = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    assert distance[same & ~np.eye(100, dtype=bool)].mean() < 0.8 * distance[~same].mean()


def test_some_items_and_users_come_late(shop):
    launch = shop.catalogue()["launch_time"].to_numpy()
    assert 0.05 < (launch > START_TIME).mean() < 0.2
    joined = shop.users()["valid_from"].to_numpy()
    assert 0.15 < (joined > START_TIME).mean() < 0.45


def test_graph_names_known_things(shop):
    graph, catalogue = shop.graph(), shop.catalogue()
    by_relation = graph.group_by("relation").aggregate([("head", "count")]).to_pylist()
    assert {row["relation"]: row["head_count"] for row in by_relation} == {
        "has_brand": 100,
        "in_category": 100,
        "complement": 400,
    }
    brands = graph.filter(pc.field("relation") == "has_brand")["tail"]
    assert brands.to_pylist() == catalogue["brand"].to_pylist()
    tails = graph.filter(pc.field("relation") == "complement")["tail"].to_pylist()
    assert set(tails) <= set(catalogue["item_id"].to_pylist())


def test_events_of_a_user_have_increasing_times_and_launched_items(shop):
    events = true_events(shop)
    user = events["user_id"].to_numpy(zero_copy_only=False)
    time = events["timestamp"].to_numpy()
    same = user[1:] == user[:-1]
    assert (np.diff(time)[same] > 0).all()
    session = events["session_id"].to_numpy(zero_copy_only=False)
    within = session[1:] == session[:-1]
    assert np.diff(time)[within].max() <= 1500
    assert np.diff(time)[same & ~within].min() > 1800
    joined = dict(zip(*(shop.users()[name].to_pylist() for name in ("user_id", "valid_from")),
                      strict=True))  # fmt: skip
    assert all(t >= joined[u] for u, t in zip(user, time.tolist(), strict=True))
    has_item = events["item_id"].is_valid().to_numpy(zero_copy_only=False)
    number = [int(name[1:]) for name in events["item_id"].drop_null().to_pylist()]
    assert (shop.world.launch_time[number] <= time[has_item]).all()
    assert (time < shop.config.end_time).mean() > 0.99


def test_columns_are_filled_where_they_should_be(shop):
    events = true_events(shop)
    search = pc.equal(events["action"], "search")
    for name, present in (
        ("query", search),
        ("item_id", pc.invert(search)),
        ("price", pc.invert(search)),
        ("rating", pc.equal(events["action"], "rate")),
    ):
        assert events[name].is_valid().equals(present), name
    assert set(events["action"].unique().to_pylist()) == set(ACTIONS)
    assert set(events["rating"].drop_null().to_pylist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    words = {w for title in shop.catalogue()["title"].to_pylist() for w in title.lower().split()}
    queries = {word for query in events["query"].drop_null().to_pylist() for word in query.split()}
    assert queries <= words


def test_spoiled_rows_are_counted_and_stand_beside_the_truth(shop):
    dirty = true_events(shop, dirty_share=0.1)
    truth, counts = true_events(shop), shop_without_bots(shop).dirty_counts()
    expected = 0.1 * truth.num_rows
    assert abs(sum(counts.values()) - expected) < 4 * np.sqrt(expected)
    assert dirty.num_rows == truth.num_rows + sum(counts.values())
    time = dirty["timestamp"].to_numpy()
    action = dirty["action"].to_pylist()
    found = {
        "old_clock": int((time < 10**6).sum()),
        "future_clock": int((time > 4 * 10**9).sum()),
        "null_user": dirty["user_id"].null_count,
        "unknown_action": action.count("hover"),
        "null_item": sum(
            a == "view" and i is None
            for a, i in zip(action, dirty["item_id"].to_pylist(), strict=True)
        ),
    }
    assert min(counts.values()) > 0
    assert found == {name: counts[name] for name in found}
    rows = collections.Counter(tuple(row.values()) for row in dirty.to_pylist())
    rows_true = [tuple(row.values()) for row in truth.to_pylist()]
    assert sum(rows[row] - 1 for row in rows_true) == counts["duplicate"]


def shop_without_bots(shop: SimulatedShop) -> SimulatedShop:
    return SimulatedShop(ShopConfig(**{**vars(shop.config), "bot_share": 0.0}))


def test_bots_are_caught_by_rate_or_pattern_and_nobody_else(shop):
    events = true_events(shop, bot_share=SMALL.bot_share)
    user = np.array(events["user_id"].to_pylist())
    time = events["timestamp"].to_numpy()
    caught = set()
    for name in np.unique(user):
        mine = np.sort(time[user == name])
        gaps = np.diff(mine)
        fast = np.searchsorted(mine, mine + 60) - np.arange(len(mine)) > 60
        regular = len(mine) >= 50 and gaps.std() / gaps.mean() < 0.02
        if fast.any() or regular:
            caught.add(str(name))
    assert len(caught) == round(0.04 * 300)
    assert caught == set(shop.bot_ids())


def test_bots_do_not_change_the_others(shop):
    truth, with_bots = true_events(shop), true_events(shop, bot_share=0.04)
    bots = pa.array(shop.bot_ids())

    def human(table):
        return table.filter(pc.invert(pc.is_in(table["user_id"], bots)))

    assert human(with_bots).equals(human(truth))


def test_fresh_users_are_new_clean_and_repeatable(shop):
    users = list(shop.fresh_users(seed=1, n=40))
    again = list(shop.fresh_users(seed=1, n=10))
    assert len(users) == 40
    items = set(shop.catalogue()["item_id"].to_pylist())
    for user in users:
        assert len(user["items"]) == len(user["actions"]) == len(user["timestamps"]) > 0
        assert user["timestamps"].dtype == np.int64
        assert (np.diff(user["timestamps"]) > 0).all()
        assert set(user["items"]) <= items
        assert set(user["actions"]) <= set(ACTIONS) - {"search"}
    assert [user["items"] for user in again] == [user["items"] for user in users[:10]]
    assert [u["items"] for u in shop.fresh_users(seed=2, n=10)] != [u["items"] for u in again]
    own = set(true_events(shop)["timestamp"].to_pylist())
    seconds = np.concatenate([user["timestamps"] for user in users])
    assert np.mean([int(second) in own for second in seconds]) < 0.05
