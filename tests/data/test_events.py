import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.events import read_events
from recjax.data.quarantine import Quarantine
from recjax.errors import UserError

HEADER = "user_id,item_id,action,timestamp"


def read(engine, settings, max_share: float = 1.0):
    """Returns the log, its good rows in order, and the quarantined (row, reason)."""
    quarantine = Quarantine(engine, max_share)
    log = read_events(engine, settings.events, quarantine)
    rows = engine.rows(log.parts.good_rows(engine).order_by(log.order))
    quarantine.write(engine.scratch / "bad.parquet")
    bad = pq.read_table(engine.scratch / "bad.parquet").to_pylist()
    return log, rows, bad


def test_good_rows_are_typed(engine, make_settings, write_lines) -> None:
    path = write_lines("log.csv", [HEADER, " u1 ,i1,View,1700000000", "u1,,search,1700000009.7"])
    log, rows, bad = read(engine, make_settings(path))
    assert rows == [
        {"row": 1, "user_id": "u1", "item_id": "i1", "action": 1, "timestamp": 1700000000},
        {"row": 2, "user_id": "u1", "item_id": None, "action": 0, "timestamp": 1700000009},
    ]
    assert bad == [] and log.time.unit == "seconds"


def test_every_fault_has_its_row_reason_and_values(engine, make_settings, write_lines) -> None:
    good = "u1,i1,view,1700000000"
    lines = [HEADER, good, ",i1,view,1700000001", "u1,i1,sniff,1700000002", "u1,,view,1700000003"]
    lines += ["u1,i1,view,later", "u1,i1", good, "u1,i1,view,1,2,3", "u1,i1,,1700000004", good]
    path = write_lines("log.csv", lines)
    _, rows, bad = read(engine, make_settings(path))
    assert [row["row"] for row in rows] == [1, 7, 10]
    assert {row["row"]: row["reason"] for row in bad} == {
        2: "user_id is missing",
        3: "unknown action",
        4: "item_id is missing",
        5: "timestamp cannot be read",
        6: "line cannot be split into columns",
        8: "line cannot be split into columns",
        9: "unknown action",
    }
    by_row = {row["row"]: json.loads(row["values"]) for row in bad}
    assert by_row[3]["action"] == "sniff" and by_row[6]["line"] == "u1,i1"
    assert {row["source"] for row in bad} == {str(path)}


def test_too_many_bad_rows_are_fatal_and_name_what_would_be_right(
    engine, make_settings, write_lines
) -> None:
    lines = [HEADER, *["u1,i1,pv,1700000000"] * 3, "u1,i1,fav,1700000000", "u,i,view,1700000000"]
    with pytest.raises(UserError) as caught:
        read(engine, make_settings(write_lines("log.csv", lines)), max_share=0.2)
    for word in (
        "4 of 5 rows", "80.0%", "max_quarantine_share", "unknown action", "row 1", "'pv' (3 rows)",
        "'fav' (1 rows)", "action_names", "favourite",
    ):  # fmt: skip
        assert word in str(caught.value), caught.value


def test_all_rows_bad_is_fatal_at_any_share(engine, make_settings, write_lines) -> None:
    lines = [HEADER, "u1,i1,pv,1700000000"]
    with pytest.raises(UserError, match="1 of 1 rows"):
        read(engine, make_settings(write_lines("log.csv", lines)), max_share=1.0)


def test_header_only_is_fatal(engine, make_settings, write_lines) -> None:
    with pytest.raises(UserError, match=r"log\.csv"):
        read(engine, make_settings(write_lines("log.csv", [HEADER])))


def test_times_that_are_none_are_told_before_reading(engine, make_settings, write_lines) -> None:
    path = write_lines("log.csv", [HEADER, "u,i,view,noon", "u,i,view,dusk"])
    with pytest.raises(UserError) as caught:
        read(engine, make_settings(path))
    for word in ("log.csv", "'timestamp'", "config.data.columns.timestamp", "'noon'", "time_unit"):
        assert word in str(caught.value)


def test_action_names_map_any_case_and_numbers(engine, make_settings, tmp_path) -> None:
    columns = {"user_id": [1.0, 2.0, 3.0], "item_id": ["a", "b", "c"], "type": [0, 1, 1]}
    pq.write_table(pa.table(columns | {"timestamp": [1700000000] * 3}), tmp_path / "a.parquet")
    changes = {"data.columns.action": "type", "data.action_names": {"0": "view", "1": "buy"}}
    _, rows, _ = read(engine, make_settings(tmp_path / "a.parquet", changes))
    assert [(row["user_id"], row["action"]) for row in rows] == [("1", 1), ("2", 5), ("3", 5)]


def test_optional_columns_and_their_faults(engine, make_settings, write_lines) -> None:
    lines = [
        "u,i,t,stars,q",
        "1,a,1700000000,4.5,",
        "1,b,1700000001,many,shoe",
        "1,c,1700000002,,x",
    ]
    changes = {"data.columns.user_id": "u", "data.columns.item_id": "i", "data.columns.action": ""}
    changes |= {"data.columns.timestamp": "t", "data.columns.rating": "stars"}
    changes |= {"data.columns.query": "q", "data.default_action": "rate"}
    log, rows, bad = read(engine, make_settings(write_lines("log.csv", lines), changes))
    assert log.extras == ("rating", "query")
    assert [(r["rating"], r["query"], r["action"]) for r in rows] == [
        (4.5, None, 6),
        (None, "x", 6),
    ]
    assert [(row["row"], row["reason"]) for row in bad] == [(2, "rating is not a number")]


def test_rows_of_several_files_grow_but_quarantine_counts_per_file(
    engine, make_settings, tmp_path, write_lines
) -> None:
    for name in ("a.csv", "b.csv"):
        lines = [
            f"{name},i1,view,1700000000",
            "u1,i1",
            f"{name},i2,view,x",
            f"{name},i3,view,1700000001",
        ]
        write_lines(name, [HEADER, *lines])
    _, rows, bad = read(engine, make_settings(f"{tmp_path}/*.csv"))
    assert {row["row"]: row["user_id"] for row in rows} == {
        1: "a.csv", 4: "a.csv", 5: "b.csv", 8: "b.csv",
    }  # fmt: skip
    found = sorted((row["source"][-5:], row["row"]) for row in bad)
    assert found == [("a.csv", 2), ("a.csv", 3), ("b.csv", 2), ("b.csv", 3)]


def test_sequences_and_rows_without_times_count_places(engine, make_settings, write_lines) -> None:
    log, rows, _ = read(engine, make_settings(write_lines("s.txt", ["u2 b a", "u1 c", "u2 d"])))
    assert log.time.unit == "order"
    assert [(row["user_id"], row["item_id"]) for row in rows] == [
        ("u2", "b"), ("u2", "a"), ("u1", "c"), ("u2", "d"),
    ]  # fmt: skip
    path = write_lines("log.csv", [HEADER, "u,z,view,noon", "u,a,view,noon"])
    engine.scratch.joinpath("events").rename(engine.scratch / "first_events")
    log, rows, _ = read(engine, make_settings(path, {"data.columns.timestamp": ""}))
    assert log.time.unit == "order" and [row["item_id"] for row in rows] == ["z", "a"]


def test_broken_json_lines_go_to_quarantine(engine, make_settings, write_lines) -> None:
    good = '{"user_id": 1, "item_id": 2, "action": "view", "timestamp": "2024-01-31 12:00:00"}'
    _, rows, bad = read(engine, make_settings(write_lines("a.jsonl", [good, "{oops", good])))
    assert [(row["row"], row["timestamp"]) for row in rows] == [(1, 1706702400), (3, 1706702400)]
    assert bad[0]["reason"] == "line is not a JSON object" and "oops" in bad[0]["values"]


@pytest.mark.parametrize("name", ["user_id", "item_id"])
def test_ids_must_be_mapped(engine, make_settings, write_lines, name) -> None:
    path = write_lines("log.csv", [HEADER, "u,i,view,1700000000"])
    with pytest.raises(UserError, match=f"config.data.columns.{name} is ''"):
        read(engine, make_settings(path, {f"data.columns.{name}": ""}))
