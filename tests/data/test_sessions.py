from recjax.data.sessions import count_sessions, number_sessions


def brute_force(rows, gap) -> dict[int, int]:
    """Returns session by row, event after event."""
    sessions: dict[int, int] = {}
    last: dict[int, dict] = {}
    for row in sorted(rows, key=lambda r: (r["user"], r["timestamp"], r["row"])):
        before = last.get(row["user"])
        if before is None:
            sessions[row["row"]] = 0
        else:
            names = (before.get("session_id"), row.get("session_id"))
            new = row["timestamp"] - before["timestamp"] > gap
            if None not in names:
                new = names[0] != names[1]
            sessions[row["row"]] = sessions[before["row"]] + new
        last[row["user"]] = row
    return sessions


def check(engine, rows, table, gap) -> None:
    expected = brute_force(rows, gap)
    numbered = number_sessions(table, gap)
    assert {row["row"]: row["session"] for row in engine.rows(numbered)} == expected
    assert numbered.schema()["session"].is_int32()
    users = {row["user"] for row in rows}
    total = sum(max(expected[r["row"]] for r in rows if r["user"] == user) + 1 for user in users)
    for some in (table, numbered):
        assert engine.rows(count_sessions(some, gap)) == [{"sessions": total}]
    assert total > len(users)


def test_sessions_by_gap(engine, store_events, random_log) -> None:
    rows = random_log(3)
    check(engine, rows, store_events(rows), 600)  # a gap of exactly 600 s does not part


def test_named_sessions_win_over_gaps_where_both_are_named(
    engine, store_events, random_log
) -> None:
    rows = random_log(4, num_rows=120)
    for row in rows:
        row["session_id"] = [None, "a", "b"][row["row"] % 3]
    check(engine, rows, store_events(rows), 600)
