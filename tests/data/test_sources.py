import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data import sources
from recjax.errors import UserError

CSV = ["user_id,item_id,action,timestamp", "u1,i1,view,5", "u2,i2,buy,6"]


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a,b c,d", "1,2 3,4"], ","),
        (["a\tb,x\tc", "1\t2\t3"], "\t"),
        (["1::Toy, Story::5", "2::Heat::4"], "::"),
        (["a;b", "1;2"], ";"),
        (['a,"b,b",c', "1,2,3"], ","),
    ],
)
def test_delimiter_is_guessed(lines, delimiter) -> None:
    assert sources.guess_delimiter(lines) == delimiter


@pytest.mark.parametrize(
    ("name", "lines", "format"),
    [
        ("a.csv", CSV, "csv"),
        ("a.txt", CSV, "csv"),
        ("a.data", ["1\t2\t3\t4", "1\t3\t3\t5"], "csv"),
        ("a.txt", ["1 2 3 4", "2 5"], "sequences"),
        ("a.txt", ["1 2", "1 3"], "sequences"),
        ("a.log", ['{"u": 1}', '{"u": 2}'], "jsonl"),
    ],
)
def test_format_is_guessed(write_lines, name, lines, format) -> None:
    assert sources.guess_format(write_lines(name, lines)) == format


def test_parquet_is_known_without_its_ending(tmp_path) -> None:
    pq.write_table(pa.table({"u": [1]}), tmp_path / "data")
    assert sources.guess_format(tmp_path / "data") == "parquet"


def test_missing_column_names_key_file_and_what_is_there(write_lines) -> None:
    file = sources.describe(write_lines("log.csv", CSV))
    with pytest.raises(UserError) as caught:
        sources.require_columns(file, {"timestamp": "time_stamp", "query": ""}, "config.x")
    for word in (
        "log.csv",
        "'time_stamp'",
        "config.x.timestamp",
        "user_id, item_id",
        "'timestamp'?",
    ):
        assert word in str(caught.value)


def test_missing_column_of_a_file_without_header_says_so(write_lines) -> None:
    file = sources.describe(write_lines("u.csv", ["196,242,3", "1,2,3"]))
    with pytest.raises(UserError, match="column0, column1"):
        sources.require_columns(file, {"user_id": "user_id"}, "config.data.columns")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "config.x is empty"),
        ("{tmp}/gone.csv", "no file matches"),
        ("{tmp}/*.parquet", "no file matches"),
        ("{tmp}", "folder without Parquet files"),
        ("{tmp}/empty.csv", "empty.csv is empty"),
    ],
)
def test_path_that_gives_no_rows(tmp_path, path, words) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match=words):
        sources.find_files(path.format(tmp=tmp_path), "config.x")


def test_folder_and_glob_give_sorted_files(tmp_path) -> None:
    for name in ("b.parquet", "a.parquet", "_SUCCESS.parquet"):
        pq.write_table(pa.table({"u": [1]}), tmp_path / name)
    names = [path.name for path in sources.find_files(str(tmp_path), "k")]
    assert names == ["a.parquet", "b.parquet"]
    assert len(sources.find_files(f"{tmp_path}/?.parquet", "k")) == 2


@pytest.mark.parametrize("name", ["x.parquet", "x.csv.gz"])
def test_file_of_another_kind_than_its_name(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(b"PAR1 not really" * 3)
    with pytest.raises(UserError, match=name):
        sources.describe(tmp_path / name)


def test_json_lines_without_any_object(write_lines) -> None:
    with pytest.raises(UserError, match="no JSON object"):
        sources.describe(write_lines("a.jsonl", ["[1]", "2"]))


def test_repeated_header_names_stay_apart(write_lines) -> None:
    file = sources.describe(write_lines("a.csv", ["u,u,,i", "1,2,3,4"]))
    assert file.columns == ("u", "u_1", "column_2", "i")
