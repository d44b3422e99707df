import pyarrow.parquet as pq

from recjax.data import readers, sources, tables
from recjax.data.quarantine import Quarantine


def make(raw):
    number, wrong = readers.as_number(raw.x, "int32")
    return {"x": number}, [(wrong, "x is not a number")]


def test_rejected_lines_count_in_row_numbers_everywhere(engine, write_lines) -> None:
    """Unsplittable lines at the start, in a run, and at the end; and a second file after them."""
    lines = ["x,y", "bad", "2,2", "bad", "bad,bad,bad", "5,5", "six,6", "bad"]
    files = [sources.describe(write_lines(name, lines), "csv", ",") for name in ("a", "b")]
    quarantine = Quarantine(engine, 1.0)
    parts = tables.read_parts(engine, [(f, {"x": "x"}) for f in files], make, quarantine, "t")
    good = engine.rows(parts.good_rows(engine).order_by("row"))
    assert good == [
        {"row": 2, "x": 2}, {"row": 5, "x": 5}, {"row": 9, "x": 2}, {"row": 12, "x": 5},
    ]  # fmt: skip
    assert parts.num_rows == 14
    assert quarantine.write(engine.scratch / "q") == {
        "line cannot be split into columns": 8,
        "x is not a number": 2,
    }
    bad = pq.read_table(engine.scratch / "q").to_pylist()
    assert sorted(row["row"] for row in bad) == [1, 1, 3, 3, 4, 4, 6, 6, 7, 7]


def test_latin_1_lines_are_told_and_kept_out(engine, tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\n1,caf\xe9\n2,cafe\n")
    quarantine = Quarantine(engine, 1.0)
    files = [(sources.describe(path), {"x": "x", "y": "y"})]
    parts = tables.read_parts(engine, files, make, quarantine, "t")
    assert engine.rows(parts.good_rows(engine)) == [{"row": 2, "x": 2}]
    assert sum(quarantine.counts.values()) == 1
