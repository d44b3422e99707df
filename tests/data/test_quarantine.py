from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.quarantine import SCHEMA, BadRow, Quarantine
from recjax.errors import UserError


def bad_rows(num: int, reason: str = "odd") -> list[BadRow]:
    return [BadRow(row, reason, f'{{"row": {row}}}') for row in range(1, num + 1)]


def test_rows_are_written_with_source_and_counted(engine, tmp_path) -> None:
    quarantine = Quarantine(engine, 1.0)
    quarantine.add_rows(Path("a.csv"), bad_rows(2))
    table = engine.store(
        pa.table({"row": [9, 3], "reason": ["even", "odd"], "values": ["{}", "{}"]}), "bad"
    )
    quarantine.add_table(Path("b.csv"), table)
    quarantine.check("log", 100, dict)
    assert quarantine.write(tmp_path / "q.parquet") == {"even": 1, "odd": 3}
    written = pq.read_table(tmp_path / "q.parquet")
    assert written.schema == SCHEMA
    assert [(r["source"], r["row"]) for r in written.to_pylist()] == [
        ("a.csv", 1), ("a.csv", 2), ("b.csv", 3), ("b.csv", 9),
    ]  # fmt: skip


@pytest.mark.parametrize(("num_rows", "fatal"), [(10, False), (9, True)])
def test_share_at_the_limit_is_not_fatal(engine, num_rows, fatal) -> None:
    quarantine = Quarantine(engine, 0.2)
    quarantine.add_rows(Path("a.csv"), bad_rows(2))
    if not fatal:
        quarantine.check("log", num_rows, dict)
        return
    with pytest.raises(UserError) as caught:
        quarantine.check("log", num_rows, lambda: {"odd": "make it even"})
    message = str(caught.value)
    assert "2 of 9 rows of log" in message and "make it even" in message and "row 1" in message
    assert len(message.splitlines()) <= 8


def test_each_source_is_judged_alone(engine) -> None:
    quarantine = Quarantine(engine, 0.2)
    quarantine.add_rows(Path("a.csv"), bad_rows(2))
    quarantine.check("a", 100, dict)
    quarantine.add_rows(Path("b.csv"), bad_rows(2))
    with pytest.raises(UserError, match="2 of 4 rows of b"):
        quarantine.check("b", 4, dict)


def test_empty_quarantine_is_a_readable_file(engine, tmp_path) -> None:
    assert Quarantine(engine, 0.0).write(tmp_path / "q.parquet") == {}
    assert pq.read_table(tmp_path / "q.parquet").num_rows == 0
