import duckdb
import pytest

from recjax.data.events import read_events
from recjax.data.ibis_source import fetch_ibis_table
from recjax.data.quarantine import Quarantine
from recjax.errors import UserError


@pytest.fixture
def shop_url(tmp_path) -> str:
    with duckdb.connect(str(tmp_path / "shop.db")) as connection:
        connection.execute(
            "CREATE TABLE log AS SELECT * FROM (VALUES (2, 'b', 'buy', 1700000009), "
            "(1, 'c', 'view', 1700000005), (1, 'a', 'view', 1700000001)) "
            "t(user_id, item_id, action, timestamp)"
        )
    return f"duckdb://{tmp_path}/shop.db"


def from_ibis(make_settings, url, table="log", **changes):
    changes = {"data.source": "ibis", "data.ibis_url": url, "data.ibis_table": table} | changes
    return make_settings("", changes)


def test_table_becomes_a_log_with_the_same_rows_every_time(engine, make_settings, shop_url) -> None:
    config = fetch_ibis_table(engine, from_ibis(make_settings, shop_url).events)
    log = read_events(engine, config, Quarantine(engine, 0.0))
    rows = engine.rows(log.parts.good_rows(engine).order_by("row"))
    assert [(row["row"], row["user_id"], row["item_id"]) for row in rows] == [
        (1, "1", "a"), (2, "1", "c"), (3, "2", "b"),
    ]  # fmt: skip


def test_file_source_is_left_alone(engine, make_settings) -> None:
    events = make_settings("x.csv").events
    assert fetch_ibis_table(engine, events) is events
    with pytest.raises(ValueError, match="written to a file first"):
        fetch_ibis_table(engine, make_settings("", {"data.source": "tfds"}).events)


@pytest.mark.parametrize(
    ("url", "table", "words"),
    [
        ("", "log", ["config.data.ibis_url", "duckdb://"]),
        ("{url}", "", ["config.data.ibis_table"]),
        ("{url}x", "log", ["no file", "shop.dbx"]),
        ("{url}", "logs", ["config.data.ibis_table='logs'", "shop.db"]),
        ("carrier://pigeon", "log", ["carrier://pigeon"]),
    ],
)
def test_wrong_url_or_table_is_told(engine, make_settings, shop_url, url, table, words) -> None:
    settings = from_ibis(make_settings, url.format(url=shop_url), table)
    with pytest.raises(UserError) as caught:
        fetch_ibis_table(engine, settings.events)
    assert all(word in str(caught.value) for word in words), caught.value


def test_missing_column_of_a_table_names_its_key(engine, make_settings, shop_url) -> None:
    settings = from_ibis(make_settings, shop_url, **{"data.columns.price": "cost"})
    with pytest.raises(UserError, match=r"'cost' \(config.data.columns.price\); it has: user_id"):
        fetch_ibis_table(engine, settings.events)
