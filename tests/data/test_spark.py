"""The same expressions give the same rows on DuckDB and on a real local Spark."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recjax.data import cleaning, sessions
from recjax.data.engine import Engine
from recjax.data.prepare_log import clean_log, encode_log, item_counts
from recjax.data.simulated_shop import ShopConfig, SimulatedShop
from recjax.data.vocabulary import Vocabulary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Spark is started by a fork; a JAX that earlier tests left in this process warns of it.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
        reason="needs pip install 'recjax[spark]' and Java 17",
    ),
]


@pytest.fixture(scope="module")
def spark() -> Iterator[object]:
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    yield session
    session.stop()


def as_rows(table) -> list[str]:
    return sorted(map(str, table))


def test_each_rule_gives_the_same_rows(
    spark, make_settings, store_events, random_log, engine, tmp_path
) -> None:
    rows = random_log(0, num_rows=200)
    source = store_events(rows)
    source_path = tmp_path / "events.parquet"
    engine.write(source, source_path)
    settings = make_settings("", {"prepare.backend": "spark"})
    with Engine(settings.engine, tmp_path / "spark") as on_spark:
        assert on_spark.is_spark
        for rule in (
            lambda engine, events: cleaning.drop_duplicates(engine, events, True)[0],
            lambda engine, events: cleaning.keep_core(engine, events, 14, 14)[0],
            lambda engine, events: cleaning.find_bots(events, settings.cleaning, 1),
            lambda engine, events: sessions.number_sessions(events, 600),
        ):
            expected = as_rows(engine.rows(rule(engine, source)))
            found = rule(on_spark, on_spark.read(source_path))
            assert as_rows(on_spark.rows(found)) == expected


def test_whole_preparation_gives_the_same_files(spark, make_settings, tmp_path) -> None:
    config = ShopConfig(
        num_users=80, num_items=40, num_days=30, seed=3, dirty_share=0.02, bot_share=0.03
    )
    shop = SimulatedShop(config).write(tmp_path)
    changes = {f"data.{name}_path": str(shop[name]) for name in shop if name != "events"}
    changes |= {f"data.columns.{name}": name for name in ("session_id", "query", "rating")}
    changes |= {"prepare.cleaning.item_core": 3, "prepare.split.user_share": 0.8}
    tables: dict[str, dict[str, list]] = {}
    profiles = {}
    for backend in ("duckdb", "spark"):
        folder: Path = tmp_path / backend
        settings = make_settings(shop["events"], changes | {"prepare.backend": backend})
        clean = clean_log(settings, folder)
        encode_log(clean, Vocabulary.build(item_counts(clean)).table())
        files = {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}
        tables[backend] = {name: table.to_pylist() for name, table in files.items()}
        types = {name: table.schema.types for name, table in files.items()}
        profiles[backend] = (clean.profile, types)
    assert tables["duckdb"] == tables["spark"]
    assert profiles["duckdb"] == profiles["spark"]
    assert len(tables["spark"]["events"]) > 100
