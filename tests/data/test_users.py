import pyarrow.parquet as pq
import pytest

from recjax.data.quarantine import Quarantine
from recjax.data.users import read_users
from recjax.errors import UserError

HEADER = "user_id,since,plan"


def read(engine, settings, has_clock=True):
    quarantine = Quarantine(engine, settings.engine.max_quarantine_share)
    attributes = read_users(engine, settings.users, quarantine, has_clock)
    quarantine.write(engine.scratch / "bad.parquet")
    bad = pq.read_table(engine.scratch / "bad.parquet").to_pylist()
    return attributes, [(row["row"], row["reason"]) for row in bad]


def test_last_row_of_a_user_counts_without_valid_from(engine, make_settings, write_lines) -> None:
    assert read(engine, make_settings()) == (None, [])
    lines = [HEADER, "a,1,free", "b,1,paid", "a,2,paid", *(f"c{i},1,free" for i in range(9))]
    path = str(write_lines("u.csv", lines))
    attributes, bad = read(engine, make_settings("", {"data.users_path": path}))
    assert attributes.names == ("since", "plan")
    plans = {row["user_id"]: row["plan"] for row in engine.rows(attributes.rows)}
    assert plans["a"] == "paid" and len(plans) == 11
    assert bad == [(1, "user_id comes again in a later row")]


def test_unreadable_valid_from_goes_to_quarantine(engine, make_settings, write_lines) -> None:
    lines = [HEADER, *(f"u{i},2024-01-0{i},free" for i in range(1, 9)), "x,soon,free", ",1,2"]
    changes = {"data.users_path": str(write_lines("u.csv", lines))}
    attributes, bad = read(
        engine, make_settings("", changes | {"data.users_columns.valid_from": "since"})
    )
    assert attributes.names == ("plan",) and engine.count(attributes.rows) == 8
    assert bad == [(9, "valid_from cannot be read"), (10, "user_id is missing")]


@pytest.mark.parametrize(
    ("lines", "changes", "has_clock", "words"),
    [
        (["id,plan", "a,b"], {}, True, ["u.csv", "'user_id'", "config.data.users_columns.user_id"]),
        (["user_id,is_cold", "a,b"], {}, True, ["u.csv", "'is_cold'"]),
        ([HEADER, "a,1,b"], {"valid_from": "since"}, False, ["valid_from", "clock"]),
        ([HEADER, "a,soon,b"], {"valid_from": "since"}, True, ["'since'", "'soon'"]),
        ([HEADER, "a,1,b"], {"valid_from": "from"}, True, ["'from'", "since"]),
    ],
)
def test_wrong_user_table_is_told(
    engine, make_settings, write_lines, lines, changes, has_clock, words
) -> None:
    changes = {f"data.users_columns.{key}": value for key, value in changes.items()}
    changes["data.users_path"] = str(write_lines("u.csv", lines))
    with pytest.raises(UserError) as caught:
        read(engine, make_settings("", changes), has_clock)
    assert all(word in str(caught.value) for word in words), caught.value
