"""Examples from a small log, against a slow reading of the rules."""

import hashlib
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data import examples as examples_module
from recjax.data import user_blocks
from recjax.data.examples import (
    CachedSource,
    ConcatenatedSource,
    ExampleConfig,
    ExampleWriter,
    LimitedSource,
    open_examples,
    write_examples,
    write_sequences,
)
from recjax.data.record_sources import ListSource
from recjax.data.records import SCHEMAS, decode_record, encode_record
from recjax.data.user_blocks import iter_user_blocks
from recjax.errors import UserError

ACTIONS = ("search", "view", "buy")
NUM_ITEMS = 12


def make_log(seed: int = 0, num_users: int = 30, method: str = "time") -> list[dict]:
    """A log sorted by user and time, a tenth of it searches, some test items unknown."""
    rng = np.random.default_rng([seed])
    rows = []
    for user in range(num_users):
        times = np.sort(rng.integers(0, 1000, int(rng.integers(1, 15))))
        for place, time in enumerate(times):
            action = int(rng.choice(3, p=[0.1, 0.6, 0.3]))
            part = int(time >= 700) + int(time >= 850)
            if method == "leave_one_out":
                part = max(0, place - len(times) + 3)
            item = 1 if action == 0 else int(rng.integers(5, 5 + NUM_ITEMS))
            if part == 2 and rng.random() < 0.1:
                item = 1
            rows.append(
                {
                    "user": user,
                    "item": item,
                    "action": action,
                    "timestamp": int(time),
                    "session": place // 3,
                    "part": part,
                }
            )
    return rows


def write_log(path, rows: list[dict]) -> None:
    types = {"user": "int32", "item": "int32", "action": "int32", "timestamp": "int64"}
    types |= {"session": "int32", "part": "int8"}
    columns = {name: pa.array([r[name] for r in rows], t) for name, t in types.items()}
    pq.write_table(pa.table(columns), path)


def records_of(folder, name: str, split: str) -> list[dict]:
    source = open_examples(folder, name, split)
    return source.__getitems__(range(len(source)))


def plain(record: dict) -> dict:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in record.items()}


def history(rows: list[dict], limit: int) -> dict:
    rows = rows[-limit:] if limit else rows
    names = {"items": "item", "actions": "action", "times": "timestamp", "sessions": "session"}
    return {name: [r[column] for r in rows] for name, column in names.items()}


def slow_examples(rows: list[dict], targets: set[int], limit: int) -> dict:
    """The rules of the examples, one user and one event at a time."""
    found = {"sequences": [], "valid": [], "test": []}
    for user in sorted({r["user"] for r in rows}):
        own = [r for r in rows if r["user"] == user and r["action"] != 0]
        train = [r for r in own if r["part"] == 0]
        if train:
            found["sequences"].append(
                {"user": user, **history(train, 0), "source": 0, "weight": 1.0}
            )
        for part, split in ((1, "valid"), (2, "test")):
            seen = [r for r in own if r["part"] <= part]
            for i, row in enumerate(seen):
                if i and row["part"] == part and row["action"] in targets:
                    items = {r["item"] for r in seen[:i]} - {1}
                    found[split].append(
                        {
                            "user": user,
                            **history(seen[:i], limit),
                            "source": 0,
                            "seen": sorted(items),
                            "target_item": row["item"],
                            "target_action": row["action"],
                            "target_time": row["timestamp"],
                        }
                    )
                    break
    return found


@pytest.mark.parametrize("method", ["time", "leave_one_out"])
@pytest.mark.parametrize("target_actions", [(), ("buy",)])
def test_sequences_and_next_item_follow_the_rules(tmp_path, method, target_actions):
    rows = make_log(1, method=method)
    write_log(tmp_path / "events.parquet", rows)
    config = ExampleConfig(ACTIONS, target_actions, max_history=4)
    facts = write_examples(
        tmp_path / "events.parquet", tmp_path / "examples", config, num_items=NUM_ITEMS
    )
    expected = slow_examples(rows, {2} if target_actions else {1, 2}, 4)
    got = [plain(r) for r in records_of(tmp_path / "examples", "sequences", "train")]
    assert got == expected["sequences"]
    for split in ("valid", "test"):
        got = [plain(r) for r in records_of(tmp_path / "examples", "next_item", split)]
        assert got == expected[split]
        assert facts.records["next_item"][split] == len(got)
    assert facts.num_events == len(rows)
    assert expected["valid"] and expected["test"]


def test_next_item_history_of_test_includes_the_validation_item(tmp_path):
    names = ("user", "item", "action", "timestamp", "session", "part")
    lines = [(0, 5, 1, 10, 0, 0), (0, 6, 1, 20, 0, 0), (0, 7, 1, 30, 0, 1), (0, 8, 1, 40, 0, 2)]
    write_log(tmp_path / "e.parquet", [dict(zip(names, line, strict=True)) for line in lines])
    config = ExampleConfig(ACTIONS)
    write_examples(tmp_path / "e.parquet", tmp_path / "examples", config, num_items=NUM_ITEMS)
    (train,) = records_of(tmp_path / "examples", "sequences", "train")
    (valid,) = records_of(tmp_path / "examples", "next_item", "valid")
    (test,) = records_of(tmp_path / "examples", "next_item", "test")
    assert train["items"].tolist() == [5, 6]
    assert (valid["items"].tolist(), valid["target_item"]) == ([5, 6], 7)
    assert (test["items"].tolist(), test["target_item"]) == ([5, 6, 7], 8)


def test_blocks_hold_whole_users_whatever_is_read_at_once(tmp_path):
    rows = make_log(2)
    write_log(tmp_path / "events.parquet", rows)
    whole = None
    for batch_rows in (1, 3, 7, 1000):
        users = []
        for block in iter_user_blocks(tmp_path / "events.parquet", ["item"], batch_rows):
            for i, user in enumerate(block.users):
                items = block.columns["item"][block.offsets[i] : block.offsets[i + 1]]
                users.append((int(user), items.tolist()))
        whole = whole or users
        assert users == whole
    assert whole == [
        (u, [r["item"] for r in rows if r["user"] == u]) for u in sorted({r["user"] for r in rows})
    ]


def test_examples_do_not_depend_on_what_is_read_at_once(tmp_path, monkeypatch):
    write_log(tmp_path / "events.parquet", make_log(3))
    digests = []
    for batch_rows in (5, 1000):
        monkeypatch.setattr(user_blocks.iter_user_blocks, "__defaults__", (batch_rows,))
        folder = tmp_path / f"examples{batch_rows}"
        write_examples(
            tmp_path / "events.parquet", folder, ExampleConfig(ACTIONS), num_items=NUM_ITEMS
        )
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        assert len(files) == 3 * 2 + 1 + 2 + 3
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files])
    assert digests[0] == digests[1]


def test_click_negatives_are_new_to_the_user_distinct_and_seeded(tmp_path):
    rows = make_log(4)
    write_log(tmp_path / "events.parquet", rows)
    drawn = {}
    for seed in (0, 1):
        folder = tmp_path / f"examples{seed}"
        config = ExampleConfig(ACTIONS, click_negatives=3, seed=seed)
        write_examples(tmp_path / "events.parquet", folder, config, num_items=NUM_ITEMS)
        drawn[seed] = []
        for part, split in enumerate(("train", "valid", "test")):
            records = records_of(folder, "click", split)
            positives = [r for r in records if r["label"] == 1]
            targets = [r for r in rows if r["part"] == part and r["action"] and r["item"] > 1]
            found = [(r["user"], r["item"], r["time"]) for r in positives]
            assert found == [(r["user"], r["item"], r["timestamp"]) for r in targets]
            for record in records:
                own = [r for r in rows if r["user"] == record["user"]]
                touched = {r["item"] for r in own if r["part"] == 0}
                if record["label"] == 0:
                    assert record["item"] not in touched
                    assert 5 <= record["item"] < 5 + NUM_ITEMS
                    drawn[seed].append(record["item"])
                assert (record["weight"], record["propensity"]) == (1.0, 1.0)
    assert drawn[0] != drawn[1]
    groups, last = [], []
    for record in records_of(tmp_path / "examples0", "click", "train"):
        if record["label"] == 1:
            last = []
            groups.append(last)
        last.append(record["item"])
    assert all(len(set(group)) == len(group) <= 4 for group in groups)
    assert max(len(group) for group in groups) == 4


def test_click_negatives_stop_when_nothing_is_new(tmp_path):
    names = ("user", "item", "action", "timestamp", "session", "part")
    lines = [(0, 5 + i, 1, i, 0, 0) for i in range(3)]
    write_log(tmp_path / "e.parquet", [dict(zip(names, line, strict=True)) for line in lines])
    write_examples(tmp_path / "e.parquet", tmp_path / "x", ExampleConfig(ACTIONS), num_items=3)
    assert [r["label"] for r in records_of(tmp_path / "x", "click", "train")] == [1, 1, 1]


def test_click_limit_thins_evenly(tmp_path):
    rows = make_log(5, num_users=400)
    write_log(tmp_path / "events.parquet", rows)
    config = ExampleConfig(ACTIONS, click_negatives=1, max_click_examples=1000)
    facts = write_examples(tmp_path / "events.parquet", tmp_path / "x", config, num_items=NUM_ITEMS)
    records = records_of(tmp_path / "x", "click", "train")
    assert 850 < len(records) < 1150
    assert facts.click_share["train"] < 1
    early = np.mean([r["user"] < 200 for r in records])
    assert 0.4 < early < 0.6


def test_impressions_become_clicks_with_the_history_before_them(tmp_path):
    rows = make_log(6)
    write_log(tmp_path / "events.parquet", rows)
    rng = np.random.default_rng([6])
    shown = []
    for user in range(35):  # users 30..34 have impressions but no events
        for time in np.sort(rng.integers(0, 1000, 3)):
            part = int(time >= 700) + int(time >= 850)
            shown.append((user, int(rng.integers(5, 17)), int(time), part, len(shown) % 5))
    propensity = [0.25 if i % 2 else None for i in range(len(shown))]
    columns = list(zip(*shown, strict=True))
    names = ("user", "item", "timestamp", "part", "position")
    types = ("int32", "int32", "int64", "int8", "int32")
    table = {n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)}
    table["label"] = pa.array([i % 3 == 0 for i in range(len(shown))]).cast(pa.int8())
    table["propensity"] = pa.array(propensity, pa.float32())
    pq.write_table(pa.table(table), tmp_path / "shown.parquet")
    write_examples(
        tmp_path / "events.parquet",
        tmp_path / "x",
        ExampleConfig(ACTIONS, max_history=5),
        num_items=NUM_ITEMS,
        impressions_path=tmp_path / "shown.parquet",
    )
    total = 0
    for part, split in enumerate(("train", "valid", "test")):
        expected = []
        for i, (user, item, time, its_part, position) in enumerate(shown):
            if its_part == part:
                before = [
                    r
                    for r in rows
                    if (r["user"], r["part"] <= part) == (user, True)
                    and r["timestamp"] < time
                    and r["action"]
                ]
                expected.append(
                    {
                        "user": user,
                        **history(before, 5),
                        "source": 0,
                        "item": item,
                        "time": time,
                        "position": position,
                        "label": float(i % 3 == 0),
                        "propensity": 0.25 if i % 2 else 1.0,
                        "weight": 1.0,
                    }
                )
        got = [plain(r) for r in records_of(tmp_path / "x", "click", split)]
        assert got == expected
        total += len(got)
    assert total == len(shown)


def test_write_examples_leaves_nothing_half_written(tmp_path, monkeypatch):
    write_log(tmp_path / "events.parquet", make_log(7))
    folder = tmp_path / "examples"
    config = ExampleConfig(ACTIONS)
    write_examples(tmp_path / "events.parquet", folder, config, num_items=NUM_ITEMS)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}

    def fail(*args):
        raise UserError("no room")

    monkeypatch.setattr(examples_module, "_next_items", fail)
    with pytest.raises(UserError, match="no room"):
        write_examples(tmp_path / "events.parquet", folder, config, num_items=NUM_ITEMS)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    assert sorted(os.listdir(tmp_path)) == ["events.parquet", "examples"]


def test_examples_survive_moving_the_folder(tmp_path):
    write_log(tmp_path / "events.parquet", make_log(8))
    config = ExampleConfig(ACTIONS)
    write_examples(tmp_path / "events.parquet", tmp_path / "a", config, num_items=NUM_ITEMS)
    before = [plain(r) for r in records_of(tmp_path / "a", "sequences", "train")]
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert [plain(r) for r in records_of(tmp_path / "b", "sequences", "train")] == before


def test_tfds_itself_reads_the_examples(tmp_path):
    import tensorflow_datasets as tfds

    write_log(tmp_path / "events.parquet", make_log(8))
    config = ExampleConfig(ACTIONS)
    write_examples(tmp_path / "events.parquet", tmp_path / "x", config, num_items=NUM_ITEMS)
    builder = tfds.builder_from_directory(tmp_path / "x" / "click" / "1.0.0")
    theirs = builder.as_data_source("train")[7]
    ours = open_examples(tmp_path / "x", "click", "train")[7]
    assert sorted(theirs) == sorted(ours)
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[name], value, err_msg=name)


def test_bad_input_names_the_file_and_the_cause(tmp_path):
    config = ExampleConfig(ACTIONS)
    with pytest.raises(UserError, match="nowhere.parquet is missing"):
        write_examples(tmp_path / "nowhere.parquet", tmp_path / "x", config, num_items=3)
    rows = make_log(9)
    write_log(tmp_path / "unsorted.parquet", rows[::-1])
    with pytest.raises(UserError, match="unsorted.parquet: rows are not sorted by user"):
        write_examples(tmp_path / "unsorted.parquet", tmp_path / "x", config, num_items=3)
    write_log(tmp_path / "late.parquet", [dict(r, part=2) for r in rows])
    with pytest.raises(UserError, match="late.parquet: no user has an event in the training"):
        write_examples(tmp_path / "late.parquet", tmp_path / "x", config, num_items=3)
    pq.write_table(pa.table({"user": [1], "part": [0]}), tmp_path / "narrow.parquet")
    with pytest.raises(UserError, match="narrow.parquet: no column 'action'"):
        write_examples(tmp_path / "narrow.parquet", tmp_path / "x", config, num_items=3)
    with pytest.raises(UserError, match="no sequences examples in"):
        open_examples(tmp_path / "x", "sequences", "train")
    with pytest.raises(UserError, match="unknown action 'byu'"):
        ExampleConfig(ACTIONS, ("byu",))
    with pytest.raises(UserError, match="search"):
        ExampleConfig(ACTIONS, ("search",))
    with pytest.raises(UserError, match="max_history"):
        ExampleConfig(ACTIONS, max_history=0)
    assert not (tmp_path / "x").exists()


def test_open_examples_refuses_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="unknown examples 'clicks'"):
        open_examples(tmp_path, "clicks", "train")
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        open_examples(tmp_path, "click", "validation")


def make_sequence(user: int, length: int) -> dict:
    numbers = np.arange(length)
    events = {"items": numbers + 5, "actions": numbers, "times": numbers, "sessions": numbers}
    return {"user": user, **events, "weight": 0.5, "source": 2}


def test_write_sequences_reads_back_and_refuses_empty_ones(tmp_path):
    assert write_sequences(tmp_path / "s", (make_sequence(u, u + 1) for u in range(9))) == 9
    records = records_of(tmp_path / "s", "sequences", "train")
    assert [len(r["items"]) for r in records] == list(range(1, 10))
    assert {(r["weight"], r["source"]) for r in records} == {(0.5, 2)}
    with pytest.raises(ValueError, match="record 2"):
        write_sequences(tmp_path / "t", [make_sequence(0, 2), make_sequence(1, 0)])
    with pytest.raises(ValueError, match="record 1"):
        write_sequences(tmp_path / "t", [dict(make_sequence(0, 2), times=np.arange(3))])
    assert not list((tmp_path / "t").iterdir())


def test_no_sequences_at_all_read_back_as_none(tmp_path):
    assert write_sequences(tmp_path, []) == 0
    source = open_examples(tmp_path, "sequences", "train")
    assert len(source) == 0 and source.__getitems__([]) == []


def test_many_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("recjax.data.records.SHARD_BYTES", 500)
    write_sequences(tmp_path, (make_sequence(u, 4) for u in range(20)))
    assert len(list(tmp_path.rglob("*array_record*"))) > 3
    source = open_examples(tmp_path, "sequences", "train")
    assert [source[i]["user"] for i in range(20)] == list(range(20))
    assert [r["user"] for r in source.__getitems__([17, 3, 3, 0])] == [17, 3, 3, 0]
    with pytest.raises(IndexError):
        source[20]


def test_records_survive_their_bytes():
    schema = dict(SCHEMAS["sequences"])
    record = make_sequence(3, 5)
    assert plain(decode_record(schema, encode_record(schema, record))) == plain(record)
    with pytest.raises(ValueError, match="no field 'weight'"):
        encode_record(schema, {k: v for k, v in record.items() if k != "weight"})
    with pytest.raises(ValueError, match="1-d"):
        encode_record(schema, dict(record, items=np.zeros((2, 2))))


class CountingSource(ListSource):
    """Counts what is read from it."""

    reads = 0

    def __getitems__(self, indices):
        found = super().__getitems__(indices)
        self.reads += len(found)
        return found


def test_cached_source_reads_once_within_its_bytes():
    base = CountingSource([make_sequence(u, 4) for u in range(10)])
    cached = CachedSource(base, max_bytes=1 << 20)
    assert [r["user"] for r in cached.__getitems__([4, 2, 4])] == [4, 2, 4]
    assert cached[2]["user"] == 2
    assert base.reads == 3  # 4 twice in one call, before it was known
    small = CachedSource(base, max_bytes=3 * cached.num_bytes // 2)
    base.reads = 0
    for _ in range(2):
        small.__getitems__(range(10))
    assert small.num_bytes <= 3 * cached.num_bytes // 2
    assert base.reads == 20 - 3


def test_concatenated_source_keeps_order_over_empty_parts():
    parts = [ListSource([make_sequence(u, 2) for u in part]) for part in ([0, 1], [], [2, 3, 4])]
    joined = ConcatenatedSource(parts)
    assert len(joined) == 5
    assert [r["user"] for r in joined.__getitems__([4, 0, 2, 1, 3])] == [4, 0, 2, 1, 3]
    assert joined[3]["user"] == 3
    with pytest.raises(IndexError, match=r"5\.\.5 of 5"):
        joined[5]
    assert len(ConcatenatedSource([])) == 0


def test_limited_source_is_a_fixed_subset():
    base = ListSource([make_sequence(u, 2) for u in range(100)])
    users = [
        [r["user"] for r in LimitedSource(base, 20, s).__getitems__(range(20))] for s in (0, 1)
    ]
    assert len(set(users[0])) == 20 and users[0] == sorted(users[0])
    assert users[0] != users[1]
    assert len(LimitedSource(base, 0)) == len(LimitedSource(base, 500)) == 100
    assert LimitedSource(base, 20)[3]["user"] == users[0][3]


def test_writer_leaves_nothing_after_an_exception(tmp_path):
    with pytest.raises(KeyError), ExampleWriter(tmp_path / "x", "sequences") as writer:
        writer.write("train", make_sequence(0, 1))
        raise KeyError
    assert not list((tmp_path / "x").iterdir())
