import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.engine import Engine, quote, quote_name
from recjax.errors import UserError


def test_write_sorts_leaves_out_and_is_the_same_every_time(engine, tmp_path) -> None:
    table = engine.query(
        "SELECT (i * 37) % 1000 AS a, i AS b FROM range(200000) t(i)", {"a": "int64", "b": "int64"}
    )
    contents = []
    for _ in range(2):
        assert engine.write(table, tmp_path / "x.parquet", ("a", "b"), leave_out=("b",)) == 200000
        contents.append((tmp_path / "x.parquet").read_bytes())
    written = pq.read_table(tmp_path / "x.parquet")
    assert written.column_names == ["a"] and contents[0] == contents[1]
    assert written["a"].to_pylist() == sorted(written["a"].to_pylist())
    assert [path.name for path in tmp_path.glob("*.unfinished")] == []


def test_keep_and_store_give_the_rows_back(engine) -> None:
    stored = engine.store(pa.table({"a": [3, 1]}), "x")
    kept = engine.keep(stored.mutate(b=stored.a + 1), "y")
    assert sorted(map(str, engine.rows(kept))) == ["{'a': 1, 'b': 2}", "{'a': 3, 'b': 4}"]
    assert engine.count(kept) == 2 and engine.hand_over(kept, "z") is kept
    batches = list(engine.batches(kept, "w"))
    assert sum(batch.num_rows for batch in batches) == 2


def test_scratch_goes_away_after_an_error(make_settings, tmp_path) -> None:
    with pytest.raises(RuntimeError), Engine(make_settings().engine, tmp_path / "s") as engine:
        engine.store(pa.table({"a": [1]}), "x")
        raise RuntimeError
    assert not (tmp_path / "s").exists()


def test_memory_limit_spills_to_scratch_and_says_when_that_is_not_enough(
    make_settings, tmp_path
) -> None:
    settings = make_settings("", {"prepare.memory_gib": 0.02})
    with Engine(settings.engine, tmp_path / "s") as engine:
        engine.embedded.con.execute("SET max_temp_directory_size = '1MB'")
        table = engine.query(
            "SELECT hash(i) AS a, i::VARCHAR AS b FROM range(3000000) t(i)",
            {"a": "uint64", "b": "string"},
        )
        with pytest.raises(UserError, match="config.prepare.memory_gib"):
            engine.write(table, tmp_path / "x.parquet", ("a",))
    assert not (tmp_path / "x.parquet").exists()


def test_folder_that_cannot_be_written(make_settings, engine, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/below"):
        Engine(make_settings().engine, tmp_path / "file" / "below")
    table = engine.store(pa.table({"a": [1]}), "x")
    with pytest.raises(UserError, match="nowhere"):
        engine.write(table, tmp_path / "nowhere" / "x.parquet")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_message(engine, tmp_path) -> None:
    (tmp_path / "x.parquet.unfinished").symlink_to("/dev/full")
    table = engine.query("SELECT i FROM range(100000) t(i)", {"i": "int64"})
    with pytest.raises(UserError, match=r"x\.parquet"):
        engine.write(table, tmp_path / "x.parquet")


def test_quoting_of_names_and_texts(engine) -> None:
    sql = f"SELECT {quote(chr(39) + 'x')} AS {quote_name(chr(34) + 'y')}"
    assert engine.fetch_all(sql) == [("'x",)]


def test_spark_without_pyspark_names_the_command(make_settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    settings = make_settings("", {"prepare.backend": "spark"})
    with pytest.raises(UserError, match=r"pip install 'recjax\[spark\]'"):
        Engine(settings.engine, tmp_path / "s")
