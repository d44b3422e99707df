import pytest

from recjax.data.codes import NO_ITEM, code_events
from recjax.data.events import read_events
from recjax.data.quarantine import Quarantine
from recjax.errors import UserError

HEADER = "user_id,item_id,action,timestamp"


def code(engine, settings):
    return code_events(engine, read_events(engine, settings.events, Quarantine(engine, 1.0)), "log")


def test_codes_follow_the_order_of_the_ids(engine, make_settings, write_lines) -> None:
    lines = [HEADER, "u10,b,view,1700000000", "u9,a,buy,1700000001", "Z,,search,1700000002"]
    log = code(engine, make_settings(write_lines("log.csv", lines)))
    assert [tuple(row.values()) for row in engine.rows(log.users.order_by("user"))] == [
        (0, "Z"), (1, "u10"), (2, "u9"),
    ]  # fmt: skip
    found = [(row["user"], row["item"]) for row in engine.rows(log.events.order_by("row"))]
    assert found == [(1, 1), (2, 0), (0, NO_ITEM)] and log.has_clock


def test_order_becomes_places_per_user(engine, make_settings, write_lines) -> None:
    lines = ["user_id,item_id,nr", "a,x,30", "b,x,7", "a,y,2", "a,z,30"]
    changes = {"data.columns.timestamp": "nr", "data.columns.action": ""}
    log = code(engine, make_settings(write_lines("log.csv", lines), changes))
    rows = engine.rows(log.events.order_by("row"))
    assert [row["timestamp"] for row in rows] == [1, 0, 0, 2] and not log.has_clock


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["u1,a,view,1700000000", "u1,b,view,1700000000"], "same user_id, 'u1'.*columns.user_id"),
        (["u1,a,view,1700000000", "u2,a,view,1700000000"], "same item_id, 'a'.*columns.item_id"),
        (["u1,,search,1700000000", "u2,,search,1700000000"], "no event carries an item_id"),
    ],
)
def test_ids_that_are_all_the_same(engine, make_settings, write_lines, rows, words) -> None:
    with pytest.raises(UserError, match=words):
        code(engine, make_settings(write_lines("log.csv", [HEADER, *rows])))
