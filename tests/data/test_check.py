import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.check import check_log
from recjax.data.check_report import render_config, render_report
from recjax.data.prepare_log import clean_log
from recjax.data.settings import log_settings
from recjax.errors import UserError

START = 1_700_000_000


@pytest.fixture
def check(make_settings, tmp_path):
    def run(path):
        report = check_log(str(path), make_settings(), tmp_path / "look")
        assert not (tmp_path / "look").exists()
        return report

    return run


def config_of(report, tmp_path: Path):
    """Writes the rendered config, loads it as a config file is loaded, and returns it."""
    path = tmp_path / "rendered.py"
    path.write_text(render_config(report))
    spec = importlib.util.spec_from_file_location("rendered", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def shop_rows(num_users=30, num_events=12) -> list[tuple]:
    return [
        (f"u{u}", f"sku{(7 * u + 3 * e) % 25}", ("pv", "AddToCart", "purchase")[(u + e) % 3],
         START + 3601 * (e * e + 2 * u))
        for u in range(num_users)
        for e in range(num_events)
    ]  # fmt: skip


def test_strange_names_and_actions_give_a_config_that_prepares(
    check, tmp_path, write_lines
) -> None:
    lines = ["VisitorId;SKU;EventType;Time", *(";".join(map(str, row)) for row in shop_rows())]
    report = check(write_lines("shop log.csv", lines))
    found = {ours: (guess.column, guess.why) for ours, guess in report.guesses.items()}
    assert found == {
        "user_id": ("VisitorId", "name"), "item_id": ("SKU", "name"),
        "action": ("EventType", "name"), "timestamp": ("Time", "name"),
    }  # fmt: skip
    assert report.events.action_names == {
        "pv": "view", "AddToCart": "cart", "purchase": "buy",
    }  # fmt: skip
    assert report.problems == () and report.split_method == "time" and report.time.unit == "seconds"
    config = config_of(report, tmp_path)
    assert config.data.delimiter == ";" and config.name == "shop log"
    profile = clean_log(log_settings(config.data, config.prepare), tmp_path / "p").profile
    assert profile["before"] == report.profile and profile["before"]["events"] == 360


def test_no_header_and_no_names_are_read_by_content(check, tmp_path, write_lines) -> None:
    rows = [
        (u, (u * 3 + e) % 20, 1 + (u + e) % 5, START + 5000 * e + 77 * u * e)
        for u in range(10)
        for e in range(9)
    ]
    lines = ["\t".join(map(str, row)) for row in rows]
    report = check(write_lines("u.data", lines))
    columns = {ours: guess.column for ours, guess in report.guesses.items()}
    assert columns == {
        "user_id": "column0", "item_id": "column1", "rating": "column2", "timestamp": "column3",
    }  # fmt: skip
    config = config_of(report, tmp_path)
    assert config.data.default_action == "rate" and config.data.columns.action == ""
    clean_log(log_settings(config.data, config.prepare), tmp_path / "p")


def test_sequences_are_known(check, tmp_path, write_lines) -> None:
    report = check(write_lines("s.txt", ["1 10 11 12 13", "2 10 12", "3 11 13 10"]))
    assert report.split_method == "leave_one_out" and report.profile["events"] == 9
    config = config_of(report, tmp_path)
    assert config.data.format == "sequences"
    clean_log(log_settings(config.data, config.prepare), tmp_path / "p")
    assert "then its items in order" in render_report(report)


def test_problems_have_counts_row_numbers_and_advice(check, tmp_path, write_lines) -> None:
    rows = [list(row) for row in shop_rows()]
    rows[4][0] = ""  # row 5
    rows[9][3] = "soon"  # row 10
    rows[19][3] = 5  # row 20
    rows[30] = rows[29]  # row 31
    rows.append(["lonely", "sku1", "pv", START])  # row 361
    crawler = [
        ["crawler", f"sku{i % 25}", "pv", START + i // 3] for i in range(200)
    ]  # from row 362
    lines = ["user,item,event,ts", *(",".join(map(str, row)) for row in rows + crawler), "oops"]
    report = check(write_lines("log.csv", lines))
    found = {problem.what: (problem.count, problem.rows) for problem in report.problems}
    assert found["impossible clock"] == (1, ("20",))
    assert found["repeated event"] == (1, ("31",))
    assert found["user with too few events"] == (1, ("361",))
    assert found["event of a bot"] == (200, ("362", "363", "364", "365", "366"))
    for what, row in (
        ("user_id is missing", 5), ("timestamp cannot be read", 10),
        ("line cannot be split into columns", 562),
    ):  # fmt: skip
        assert found[what][0] == 1 and f"row {row}:" in found[what][1][0]
    assert report.problems[0].what == "event of a bot"
    text = render_report(report)
    for word in ("200 x event of a bot", "rows 362, 363", "log.csv row 5:", "prepare:", "GiB"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 200
    assert config_of(report, tmp_path).prepare.max_quarantine_share == 0.2


def test_unknown_actions_are_added_and_codes_get_a_name(check, tmp_path) -> None:
    rows = shop_rows()
    columns = {
        name: [row[i] for row in rows] for i, name in enumerate(("uid", "asin", "type", "ts"))
    }
    columns["type"] = [place % 3 for place in range(len(rows))]
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    report = check(tmp_path / "log.parquet")
    assert sorted(report.new_actions) == ["action_0", "action_1", "action_2"]
    config = config_of(report, tmp_path)
    assert set(report.new_actions) < set(config.data.actions) and "view" in config.data.actions
    profile = clean_log(log_settings(config.data, config.prepare), tmp_path / "p").profile
    assert profile["quarantine"] == {} and set(profile["after"]["actions"]) == set(
        report.new_actions
    )


def test_share_of_bad_rows_is_allowed_for_in_the_config(check, tmp_path, write_lines) -> None:
    rows = [list(row) for row in shop_rows()]
    for row in rows[::3]:
        row[0] = ""
    lines = ["user,item,event,ts", *(",".join(map(str, row)) for row in rows)]
    config = config_of(check(write_lines("log.csv", lines)), tmp_path)
    assert config.prepare.max_quarantine_share == pytest.approx(1 / 3 + 0.01, abs=0.005)
    clean_log(log_settings(config.data, config.prepare), tmp_path / "p")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["colour,size", ",", ",", ","], ["no column looks like user_id", "colour, size"]),
        (["user,size", "a,", "b,", "c,"], ["no column looks like item_id"]),
        (["user,item", "a,b", "a,c"], ["same user_id"]),
    ],
)
def test_log_that_cannot_be_used_is_told(check, write_lines, lines, words) -> None:
    with pytest.raises(UserError) as caught:
        check(write_lines("log.csv", lines))
    assert all(word in str(caught.value) for word in words), caught.value


def test_missing_file_is_told(check) -> None:
    with pytest.raises(UserError, match=r"gone\.csv"):
        check("gone.csv")


REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "user", "item", "time", "events"),
    [
        ("ml100k/ml-100k.inter.gz", "user_id:token", "item_id:token", "timestamp:float", 100000),
        ("online_retail/invoices.parquet", "CustomerID", "StockCode", "InvoiceDate", 406829),
        ("retailrocket_mb/events.parquet", "user_id", "item_id", "timestamp", 97381),
    ],
)
def test_public_logs_are_mapped(check, tmp_path, name, user, item, time, events) -> None:
    report = check(REAL / name)
    columns = report.events.columns
    assert (columns["user_id"], columns["item_id"], columns["timestamp"]) == (user, item, time)
    assert report.profile["events"] == events
    config_of(report, tmp_path)
