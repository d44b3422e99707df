import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data import sources
from recjax.data.readers import open_mapped


def rows_of(engine, file, names=None):
    names = names or file.columns
    table = open_mapped(engine, file, {name: name for name in names})
    return engine.rows(table.order_by("row"))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst"])
def test_csv_rows_are_numbered_in_file_order(engine, tmp_path, ending) -> None:
    lines = ["user_id,item_id,action,timestamp", *(f"u{i},i{i},view,{i}" for i in range(1, 3000))]
    data = ("\n".join(lines) + "\n").encode()
    path = tmp_path / f"log{ending}"
    if ending.endswith("gz"):
        path.write_bytes(gzip.compress(data))
    elif ending.endswith("zst"):
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(data)
    rows = rows_of(engine, sources.describe(path))
    assert [row["user_id"] for row in rows] == [f"u{row['row']}" for row in rows]
    assert len(rows) == 2999


def test_csv_without_header_and_with_crlf(engine, tmp_path) -> None:
    path = tmp_path / "u.data"
    path.write_bytes(b"196\t242\t3\r\n186\t302\t4\r\n")
    file = sources.describe(path, wanted=("column0", "column1"))
    assert file.columns == ("column0", "column1", "column2") and not file.has_header
    rows = rows_of(engine, file)
    assert [(row["row"], row["column0"], row["column2"]) for row in rows] == [
        (1, "196", "3"),
        (2, "186", "4"),
    ]


def test_parquet_with_a_column_row_of_its_own(engine, tmp_path) -> None:
    table = pa.table({"row": [7, 8, 9], "Ünü": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    file = sources.describe(tmp_path / "a.parquet")
    opened = open_mapped(engine, file, {"user_id": "Ünü", "item_id": "row"})
    assert engine.rows(opened.order_by("row")) == [
        {"row": i, "user_id": name, "item_id": i + 6} for i, name in enumerate("abc", 1)
    ]


def test_json_lines_keep_line_numbers_and_tell_broken_ones(engine, write_lines) -> None:
    lines = ['{"u": 1, "i/x": "a\\"b"}', '{"u": 2', "", "[1]", '{"u": "3", "t": 1.5}']
    file = sources.describe(write_lines("a.jsonl", lines))
    assert set(file.columns) == {"u", "i/x", "t"}
    rows = rows_of(engine, file)
    assert [(row["row"], row["u"], row["i/x"]) for row in rows] == [
        (1, "1", 'a"b'),
        (2, None, None),
        (4, None, None),
        (5, "3", None),
    ]
    assert [row["__line"] for row in rows] == [None, '{"u": 2', "[1]", None]


def test_sequences_have_lines_and_places(engine, write_lines) -> None:
    path = write_lines("s.txt", ["1 10  11", "2\t10 ", "", "3"])
    rows = engine.rows(
        open_mapped(
            engine,
            sources.describe(path, "sequences"),
            {name: name for name in sources.SEQUENCE_COLUMNS},
        ).order_by(["row", "timestamp"])
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, "1", "10", 0),
        (1, "1", "11", 1),
        (2, "2", "10", 0),
        (4, "3", None, 0),
    ]
