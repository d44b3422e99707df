from collections import defaultdict

import pyarrow as pa
import pytest

from recjax.data import splits
from recjax.data.codes import NO_ITEM, CodedLog
from recjax.data.splits import TEST, TRAIN, VALID
from recjax.errors import UserError


@pytest.fixture
def make_log(engine, store_events):
    def make(rows, has_clock=True) -> CodedLog:
        users = sorted({row["user"] for row in rows})
        items = sorted({row["item"] for row in rows} - {NO_ITEM})
        tables = [
            pa.table(
                {name: pa.array(codes, pa.int32()), f"{name}_id": [f"{name}{c}" for c in codes]}
            )
            for name, codes in (("user", users), ("item", items))
        ]
        stored = [engine.store(table, "ids") for table in tables]
        return CodedLog(store_events(rows), *stored, has_clock)

    return make


def parts_of(engine, log, settings, targets=()) -> tuple[dict[int, int], dict]:
    split = splits.split_events(engine, log, settings.split, targets)
    assert split.events.schema()["part"].is_int8()
    return {row["row"]: row["part"] for row in engine.rows(split.events)}, split.facts


@pytest.mark.parametrize("seed", range(3))
def test_time_cut_holds_the_shares(engine, make_settings, make_log, random_log, seed) -> None:
    rows = random_log(seed)
    changes = {"prepare.split.valid_share": 0.15, "prepare.split.test_share": 0.2}
    parts, facts = parts_of(engine, make_log(rows), make_settings("", changes))
    for row in rows:
        expected = TRAIN
        if row["timestamp"] >= facts["valid_time"]:
            expected = TEST if row["timestamp"] >= facts["test_time"] else VALID
        assert parts[row["row"]] == expected
    times = sorted(row["timestamp"] for row in rows)
    assert facts["valid_time"] == times[260] and facts["test_time"] == times[320]  # 65 %, 80 %


def test_time_cut_moves_on_where_the_shares_fall_on_one_second(
    engine, make_settings, make_log
) -> None:
    times = [1, 2, *[3] * 20, 4]
    rows = [
        {"row": i, "user": 0, "item": 0, "action": 1, "timestamp": t} for i, t in enumerate(times)
    ]
    _, facts = parts_of(engine, make_log(rows), make_settings())
    assert (facts["valid_time"], facts["test_time"]) == (3, 4)


@pytest.mark.parametrize("times", [[5] * 9, [5] * 4 + [6] * 5])
def test_time_cut_of_too_few_times(engine, make_settings, make_log, times) -> None:
    rows = [
        {"row": i, "user": 0, "item": 0, "action": 1, "timestamp": t} for i, t in enumerate(times)
    ]
    with pytest.raises(UserError, match="three spans of time"):
        parts_of(engine, make_log(rows), make_settings())


def test_time_cut_of_a_log_without_clock(engine, make_settings, make_log, random_log) -> None:
    with pytest.raises(UserError, match="leave_one_out"):
        parts_of(engine, make_log(random_log(0), has_clock=False), make_settings())


@pytest.mark.parametrize("targets", [(), (2,)])
def test_leave_one_out_is_that_of_brute_force(
    engine, make_settings, make_log, random_log, targets
) -> None:
    rows = random_log(6, num_rows=150, num_users=20)
    for row in rows[::8]:
        row["item"] = NO_ITEM
    settings = make_settings("", {"prepare.split.method": "leave_one_out"})
    parts, _ = parts_of(engine, make_log(rows), settings, targets)
    by_user = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["timestamp"], r["row"])):
        by_user[row["user"]].append(row)
    for events in by_user.values():
        places = [
            i
            for i, row in enumerate(events)
            if row["item"] != NO_ITEM and (not targets or row["action"] in targets)
        ]
        valid, test = (places[-2], places[-1]) if len(places) >= 3 else (len(events),) * 2
        expected = [TRAIN if i < valid else VALID if i < test else TEST for i in range(len(events))]
        assert [parts[row["row"]] for row in events] == expected
    assert set(parts.values()) == {TRAIN, VALID, TEST}


@pytest.mark.parametrize("side", ["user", "item"])
def test_cold_users_and_items_are_held_out_whole(
    engine, make_settings, make_log, random_log, side
) -> None:
    rows = random_log(7, num_users=40, num_items=40)
    changes = {"prepare.split.method": f"cold_{side}s", "prepare.split.test_share": 0.2}
    parts, facts = parts_of(engine, make_log(rows), make_settings("", changes))
    assert facts["held_out"] == side
    held = defaultdict(set)
    for row in rows:
        held[row[side]].add(parts[row["row"]])
    assert all(len(found) == 1 for found in held.values())
    counts = [sum(found == {part} for found in held.values()) for part in (TRAIN, VALID, TEST)]
    assert counts[1:] == [round(0.1 * len(held)), round(0.2 * len(held))]


def test_folds_part_the_users_and_each_is_test_once(
    engine, make_settings, make_log, random_log
) -> None:
    rows = random_log(8, num_users=30)
    log, tested = make_log(rows), defaultdict(list)
    for fold in range(4):
        changes = {"prepare.split.method": "folds", "prepare.split.num_folds": 4}
        parts, _ = parts_of(engine, log, make_settings("", changes | {"prepare.split.fold": fold}))
        for user in {row["user"] for row in rows}:
            found = {parts[row["row"]] for row in rows if row["user"] == user}
            assert len(found) == 1
            if found == {TEST}:
                tested[user].append(fold)
    assert sorted(tested) == sorted({row["user"] for row in rows})
    assert all(len(folds) == 1 for folds in tested.values())


def test_random_choice_follows_seed_and_id_only(
    engine, make_settings, make_log, random_log
) -> None:
    rows = random_log(9, num_users=30)
    changes = {"prepare.split.method": "cold_users"}
    first, _ = parts_of(engine, make_log(rows), make_settings("", changes))
    again, _ = parts_of(engine, make_log(rows[::-1]), make_settings("", changes))
    other, _ = parts_of(
        engine, make_log(rows), make_settings("", changes | {"prepare.split.seed": 1})
    )
    assert first == again != other


def test_smaller_user_share_is_part_of_a_larger_one(
    engine, make_settings, make_log, random_log
) -> None:
    rows, kept = random_log(10, num_users=30), {}
    num_users = len({row["user"] for row in rows})
    for share in (0.2, 0.5, 1.0):
        settings = make_settings("", {"prepare.split.user_share": share})
        left = splits.keep_share(engine, make_log(rows), settings.split)
        kept[share] = {row["user"] for row in engine.rows(left)}
        assert len(kept[share]) == round(share * num_users)
        assert engine.count(left) == sum(row["user"] in kept[share] for row in rows)
    assert kept[0.2] < kept[0.5] < kept[1.0]


def test_folds_of_a_user_share_are_disjoint(engine, make_settings, make_log, random_log) -> None:
    rows, kept = random_log(10, num_users=30), []
    for fold in range(5):
        changes = {"prepare.split.user_share": 0.2, "prepare.split.user_fold": fold}
        left = splits.keep_share(engine, make_log(rows), make_settings("", changes).split)
        kept += sorted({row["user"] for row in engine.rows(left)})
    assert len(kept) == len(set(kept)) == len({row["user"] for row in rows}) // 5 * 5


@pytest.mark.parametrize(
    ("method", "num", "words"),
    [
        ("cold_users", 2, "at least 3 users; .* has 2"),
        ("cold_items", 2, "at least 3 items"),
        ("folds", 4, "at least 5 users; .* has 4"),
    ],
)
def test_too_few_to_hold_out(engine, make_settings, make_log, method, num, words) -> None:
    rows = [
        {"row": i, "user": i % num, "item": i % num, "action": 1, "timestamp": i} for i in range(20)
    ]
    with pytest.raises(UserError, match=words):
        parts_of(engine, make_log(rows), make_settings("", {"prepare.split.method": method}))


@pytest.mark.parametrize(
    ("method", "words"), [("leave_one_out", "at least 3 target events"), ("time", "no targets")]
)
def test_parts_without_a_target(make_settings, method, words) -> None:
    counts = {
        "events": {"train": 5, "valid": 1, "test": 1},
        "targets": {"train": 5, "valid": 1, "test": 0},
    }
    settings = make_settings("", {"prepare.split.method": method})
    with pytest.raises(UserError, match=words):
        splits.check_parts(counts, settings.split)
