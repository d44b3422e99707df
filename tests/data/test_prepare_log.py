import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.prepare_log import clean_log, encode_log, item_counts
from recjax.data.simulated_shop import ShopConfig, SimulatedShop
from recjax.data.simulated_shop.dirt import is_bot
from recjax.data.splits import TRAIN
from recjax.data.vocabulary import Vocabulary
from recjax.errors import UserError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SHOP = ShopConfig(
    num_users=120, num_items=60, num_days=30, seed=3, dirty_share=0.02, bot_share=0.03
)
OPTIONAL = ("session_id", "query", "rating", "price", "platform")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> dict[str, Path]:
    return SimulatedShop(SHOP).write(tmp_path_factory.mktemp("shop"))


def shop_changes(shop: dict[str, Path], **changes) -> dict:
    tables = {f"data.{name}_path": str(shop[name]) for name in shop if name != "events"}
    return tables | {f"data.columns.{name}": name for name in OPTIONAL} | changes


def prepare(settings, folder: Path):
    """Runs both steps as the stage does; returns facts and the tables by name."""
    clean = clean_log(settings, folder)
    known = clean.catalogue["item_id"].to_pylist() if clean.catalogue is not None else []
    vocabulary = Vocabulary.build(item_counts(clean), known)
    facts = encode_log(clean, vocabulary.table())
    tables = {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}
    return facts, tables, vocabulary


@pytest.mark.parametrize("method", ["time", "leave_one_out", "cold_users", "cold_items", "folds"])
def test_files_fit_each_other(make_settings, tmp_path, shop, method) -> None:
    settings = make_settings(shop["events"], shop_changes(shop, **{"prepare.split.method": method}))
    facts, tables, vocabulary = prepare(settings, tmp_path / "prepared")
    assert sorted(tables) == ["events", "impressions", "quarantine", "users"]
    events, users = tables["events"].to_pylist(), tables["users"].to_pylist()
    order = [(row["user"], row["timestamp"]) for row in events]
    assert order == sorted(order) and len(events) == facts.num_events
    assert [row["user"] for row in users] == list(range(facts.num_users))
    assert [row["user_id"] for row in users] == sorted(row["user_id"] for row in users)
    train = Counter(row["user"] for row in events if row["part"] == TRAIN)
    assert all(row["num_train_events"] == train[row["user"]] for row in users)
    assert all(row["is_cold"] == (train[row["user"]] == 0) for row in users)
    assert sum(row["is_cold"] for row in users) > 0  # the shop has users without events
    assert max(row["item"] for row in events) < vocabulary.vocab_size
    sessions = defaultdict(list)
    for row in events:
        sessions[row["user"]].append(row["session"])
    for numbers in sessions.values():
        assert numbers == sorted(numbers) and set(numbers) == set(range(numbers[-1] + 1))
    profile = json.loads((tmp_path / "prepared/profile.json").read_text())
    assert profile == facts.profile and profile["after"]["events"] == len(events)
    assert profile["split"]["events"] == {
        name: sum(row["part"] == part for row in events)
        for part, name in enumerate(("train", "valid", "test"))
    }
    removed = sum(profile["cleaning"].values())
    assert profile["before"]["events"] - removed == len(events)
    assert sum(profile["quarantine"].values()) == tables["quarantine"].num_rows
    names = {path.name for path in (tmp_path / "prepared").iterdir()}
    assert names == {f"{name}.parquet" for name in tables} | {"profile.json"}


def test_dirt_and_bots_of_the_shop_are_found(make_settings, tmp_path, shop) -> None:
    facts, tables, _ = prepare(make_settings(shop["events"], shop_changes(shop)), tmp_path / "p")
    profile = facts.profile
    assert set(profile["quarantine"]) == {
        "item_id is missing", "unknown action", "user_id is missing",
    }  # fmt: skip
    assert profile["cleaning_facts"]["bot_users"] == is_bot(SHOP, np.arange(120)).sum() > 0
    assert profile["cleaning"]["impossible_clock"] > 0 and profile["cleaning"]["duplicate"] > 0
    reasons = Counter(tables["quarantine"]["reason"].to_pylist())
    assert reasons == profile["quarantine"]
    source = pq.read_table(shop["events"]).to_pylist()
    for row in tables["quarantine"].to_pylist():
        values = json.loads(row["values"])
        assert source[row["row"] - 1]["user_id"] == values["user_id"]
        assert source[row["row"] - 1]["action"] == values["action"]


def test_same_input_gives_the_same_bytes(make_settings, tmp_path, shop) -> None:
    settings = make_settings(shop["events"], shop_changes(shop))
    for name in ("a", "b"):
        prepare(settings, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_attributes_are_those_valid_at_the_end_of_training(make_settings, tmp_path) -> None:
    start = 1_700_000_000
    events = [
        {
            "user_id": f"u{user}",
            "item_id": f"i{t % 7}",
            "action": "view",
            "timestamp": start + 2 * t * t,
        }
        for user in range(3)
        for t in range(50)
    ]  # the cut at 80 % of the events lies at t = 40: start + 3200
    plans = [(start - 5, "early"), (start + 3000, "middle"), (start + 3201, "late")]
    users = [{"user_id": "u0", "since": since, "plan": plan} for since, plan in reversed(plans)] + [
        {"user_id": "u1", "since": start + 4900, "plan": "late"}
    ]
    users += [{"user_id": "new", "since": start, "plan": "trial"}]
    changes = {
        "data.users_path": str(write_parquet(tmp_path / "users.parquet", users)),
        "data.users_columns.valid_from": "since",
    }
    path = write_parquet(tmp_path / "events.parquet", events)
    _, tables, _ = prepare(make_settings(path, changes), tmp_path / "p")
    found = {row["user_id"]: row for row in tables["users"].to_pylist()}
    plans_found = {name: row["plan"] for name, row in found.items()}
    assert plans_found == {"u0": "middle", "u1": None, "u2": None, "new": "trial"}
    assert found["new"]["is_cold"] and not found["u0"]["is_cold"]


def test_items_outside_the_vocabulary_are_unknown(make_settings, tmp_path, write_lines) -> None:
    lines = ["a x y z", "b x y w", "c y x v"]
    changes = {"prepare.split.method": "leave_one_out", "data.format": "sequences"}
    settings = make_settings(write_lines("s.txt", lines), changes)
    clean = clean_log(settings, tmp_path / "p")
    counts = item_counts(clean).to_pydict()
    assert counts == {"item_id": ["x", "y"], "count": [2, 1]}
    encode_log(clean, pa.table({"item_id": ["y", "x"], "item": pa.array([5, 6], pa.int32())}))
    events = pq.read_table(tmp_path / "p/events.parquet").to_pylist()
    assert [row["item"] for row in events] == [6, 5, 1, 6, 5, 1, 5, 6, 1]
    assert [row["part"] for row in events] == [0, 1, 2] * 3


def test_bad_log_leaves_nothing_but_an_empty_folder(make_settings, tmp_path, write_lines) -> None:
    path = write_lines("log.csv", ["user_id,item_id,action,timestamp", "u,i,sniff,1700000000"])
    with pytest.raises(UserError, match="sniff"):
        clean_log(make_settings(path), tmp_path / "p")
    assert list((tmp_path / "p").iterdir()) == []


@pytest.mark.skipif(not (REAL / "amazon_beauty").exists(), reason="needs ../shared/data")
def test_beauty_sequences_keep_their_published_counts(make_settings, tmp_path) -> None:
    settings = make_settings(
        REAL / "amazon_beauty/Beauty.txt.gz", {"prepare.split.method": "leave_one_out"}
    )
    facts, tables, _ = prepare(settings, tmp_path / "p")
    after = facts.profile["after"]
    assert (after["events"], after["users"], after["items"]) == (198502, 22363, 12101)
    assert facts.profile["split"]["users"]["test"] == 22363
    assert Counter(tables["events"]["part"].to_pylist()) == {0: 153776, 1: 22363, 2: 22363}


@pytest.mark.skipif(not (REAL / "taobao_mb").exists(), reason="needs ../shared/data")
def test_taobao_log_is_read_with_renamed_actions(make_settings, tmp_path) -> None:
    changes = {"data.columns.action": "behavior"}
    changes |= {"data.action_names": {"pv": "view", "fav": "favourite"}}
    settings = make_settings(REAL / "taobao_mb/events.parquet", changes)
    profile = clean_log(settings, tmp_path / "p").profile
    assert profile["before"]["actions"] == {
        "view": 113925, "favourite": 49482, "cart": 140068, "buy": 167862,
    }  # fmt: skip
    shares = [profile["split"]["events"][name] / 471337 for name in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.001)
