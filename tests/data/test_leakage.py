import pytest

from recjax.data.leakage import check_leakage
from recjax.data.splits import TEST, TRAIN, VALID
from recjax.errors import UserError

TIME = {"method": "time", "valid_time": 100, "test_time": 200}
CLEAN = [  # user, item, timestamp, part under TIME; also a clean leave-one-out
    (0, 0, 10, TRAIN), (0, 1, 99, TRAIN), (0, 0, 100, VALID), (0, 2, 200, TEST),
    (1, 2, 50, TRAIN), (1, 0, 199, VALID), (1, 1, 300, TEST),
]  # fmt: skip
HELD = [  # users 1 and 2, items 1 and 2 held out
    (0, 0, 10, TRAIN), (0, 0, 500, TRAIN), (1, 1, 10, VALID), (1, 1, 20, VALID), (2, 2, 5, TEST),
]  # fmt: skip


def leak(engine, store_events, rows, facts) -> None:
    names = ("user", "item", "timestamp", "part")
    table = store_events(
        [
            {"row": row, "action": 1} | dict(zip(names, values, strict=True))
            for row, values in enumerate(rows)
        ]
    )
    check_leakage(engine, table, facts)


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        (CLEAN, TIME),
        (CLEAN, {"method": "leave_one_out"}),
        (HELD, {"method": "cold_users"}),
        (HELD, {"method": "folds"}),
        (HELD, {"method": "cold_items"}),
        ([*HELD, (1, -1, 3, VALID), (0, -1, 3, TRAIN)], {"method": "cold_items"}),  # searches
    ],
)
def test_clean_split_passes(engine, store_events, rows, facts) -> None:
    leak(engine, store_events, rows, facts)


@pytest.mark.parametrize(
    ("rows", "facts", "words"),
    [
        ([*CLEAN, (3, 3, 100, TRAIN)], TIME, "train event lies at or after the cut"),
        ([*CLEAN, (3, 3, 99, VALID)], TIME, "valid event lies before"),
        ([*CLEAN, (3, 3, 200, VALID)], TIME, "valid event lies at or after"),
        ([*CLEAN, (3, 3, 199, TEST)], TIME, "test event lies before"),
        ([*CLEAN, (1, 3, 250, TRAIN)], {"method": "leave_one_out"}, "after an event of a later"),
        ([*CLEAN, (0, 3, 250, VALID)], {"method": "leave_one_out"}, "after an event of a later"),
        ([*HELD, (2, 0, 5, TRAIN)], {"method": "cold_users"}, "one user is in two parts"),
        ([*HELD, (2, 0, 5, VALID)], {"method": "folds"}, "one user is in two parts"),
        ([*HELD, (0, 2, 5, TRAIN)], {"method": "cold_items"}, "one item is in two parts"),
    ],
)
def test_planted_leak_is_caught(engine, store_events, rows, facts, words) -> None:
    with pytest.raises(UserError, match=f"leak: .*{words}"):
        leak(engine, store_events, rows, facts)


def test_same_event_in_two_parts_is_caught(engine, store_events) -> None:
    row = {"row": 7, "user": 0, "item": 0, "action": 1, "timestamp": 150}
    twice = store_events([row | {"part": VALID}, row | {"part": TEST}, row | {"row": 8, "part": 1}])
    with pytest.raises(UserError, match="same event is in two parts"):
        check_leakage(engine, twice, {"method": "leave_one_out"})
