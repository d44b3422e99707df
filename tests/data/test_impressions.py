import pyarrow as pa
import pytest

from recjax.data.impressions import assign_parts, read_impressions
from recjax.data.quarantine import Quarantine
from recjax.data.splits import TEST, TRAIN, VALID
from recjax.errors import UserError

HEADER = "impression_id,user_id,item_id,timestamp,position,label,propensity"


def read(engine, settings):
    quarantine = Quarantine(engine, 0.9)
    return read_impressions(engine, settings.events, quarantine), dict(quarantine.counts)


def test_columns_are_found_under_our_names_and_typed(engine, make_settings, write_lines) -> None:
    assert read(engine, make_settings()) == (None, {})
    lines = [HEADER, "p1,u,i,1700000000,3,1,0.25", "p1,u,i,1700000000,4,2,0.25"]
    lines += ["p1,u,i,1700000000,4,,0.25", "p1,u,i,1700000000,4,0,0", "p1,u,,1700000000,4,0,1"]
    path = str(write_lines("shown.csv", lines))
    shown, bad = read(engine, make_settings("", {"data.impressions_path": path}))
    assert engine.rows(shown) == [
        {"row": 1, "user_id": "u", "item_id": "i", "timestamp": 1700000000, "impression_id": "p1",
         "position": 3, "label": 1, "propensity": 0.25}
    ]  # fmt: skip
    assert bad == {
        "label is not 0 or 1": 2, "propensity is not in (0, 1]": 1, "item_id is missing": 1,
    }  # fmt: skip


def test_optional_columns_may_be_absent_but_not_the_label(
    engine, make_settings, write_lines
) -> None:
    path = write_lines("a.csv", ["user_id,item_id,timestamp,clicked", "u,i,1700000000,true"])
    changes = {"data.impressions_path": str(path)}
    with pytest.raises(UserError, match=r"a\.csv has no column 'label'"):
        read(engine, make_settings("", changes))
    path = write_lines("b.csv", ["user_id,item_id,timestamp,clicked", "u,i,1700000000,1"])
    changes = {"data.impressions_path": str(path), "data.columns.label": "clicked"}
    shown, _ = read(engine, make_settings("", changes))
    row = engine.rows(shown)[0]
    assert (row["label"], row["position"], row["propensity"]) == (1, None, None)


EVENTS = [  # user, item, timestamp, part of a leave-one-out
    (0, 0, 10, TRAIN), (0, 1, 20, VALID), (0, 2, 25, VALID), (0, 3, 30, TEST), (1, 9, 99, TRAIN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"method": "time", "valid_time": 20, "test_time": 30}, [0, 1, 1, 2, 2]),
        ({"method": "leave_one_out"}, [0, 1, 1, 2, 0]),
    ],
)
def test_part_of_an_impression_is_that_of_its_time(engine, store_events, facts, expected) -> None:
    names = ("user", "item", "timestamp", "part")
    events = store_events([dict(zip(names, row, strict=True)) for row in EVENTS])
    shown = engine.store(
        pa.table({"user": [0, 0, 0, 0, 1], "item": [5] * 5, "timestamp": [19, 20, 29, 30, 500]}),
        "s",
    )
    rows = engine.rows(assign_parts(shown, events, facts).order_by(["user", "timestamp"]))
    assert [row["part"] for row in rows] == expected


@pytest.mark.parametrize(("side", "expected"), [("user", [1, 1, 2, 0]), ("item", [2, 0, 0, 1])])
def test_part_of_an_impression_of_something_held_out(engine, store_events, side, expected) -> None:
    events = store_events(
        [
            {side: 0, "part": VALID, "timestamp": 1}, {side: 0, "part": VALID, "timestamp": 2},
            {side: 1, "part": TEST, "timestamp": 1}, {side: 2, "part": TRAIN, "timestamp": 1},
        ]
    )  # fmt: skip
    shown = engine.store(
        pa.table({"user": [0, 0, 1, 7], "item": [1, 2, 7, 0], "timestamp": [1, 2, 3, 4]}), "shown"
    )
    parted = assign_parts(shown, events, {"method": "cold", "held_out": side})
    assert [row["part"] for row in engine.rows(parted.order_by("timestamp"))] == expected
