"""A log that is a table of any Ibis backend (DuckDB file, Spark, BigQuery, ...), brought to a file.

The mapped columns are sorted by user, time and item there, so that row numbers mean the same every
time, and streamed into one Parquet file; from then on it is a log like any other.
"""

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from recjax.data.engine import Engine, open_spark
from recjax.data.settings import EventsConfig
from recjax.errors import UserError


def fetch_ibis_table(engine: Engine, config: EventsConfig) -> EventsConfig:
    """Returns `config` with a file to read; unchanged if its source is a file already.

    Raises:
        UserError: if url or table is missing or cannot be opened.
        ValueError: if the source is of a kind that the stage has to write to a file first.
    """
    if config.source == "file":
        return config
    if config.source != "ibis":
        raise ValueError(f"source {config.source!r} must be written to a file first")
    table = open_table(config)
    wanted = [name for name in config.columns.values() if name]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        keys = [ours for ours, theirs in config.columns.items() if theirs == missing[0]]
        raise UserError(
            f"{config.ibis_url} table {config.ibis_table!r} has no column {missing[0]!r} "
            f"(config.data.columns.{keys[0]}); it has: {', '.join(table.columns[:30])}"
        )
    order = [config.columns[name] for name in ("user_id", "timestamp", "item_id")]
    sorted_rows = table.select(*wanted).order_by([name for name in order if name])
    path = engine.scratch / f"{config.ibis_table}.parquet"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # backends lag behind their drivers
        _export(sorted_rows, path)
    return dataclasses.replace(config, source="file", path=str(path), format="parquet")


def open_table(config: EventsConfig) -> ir.Table:
    """Connects to config.ibis_url and returns its table.

    Raises:
        UserError: if the url, its backend or the table is not there.
    """
    for key in ("ibis_url", "ibis_table"):
        if not getattr(config, key):
            raise UserError(
                f"config.data.{key} is ''; config.data.source='ibis' needs a url such as "
                "duckdb://shop.db and a table"
            )
    _check_file(config.ibis_url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return _connect(config.ibis_url).table(config.ibis_table)
    except Exception as error:  # every backend raises its own kinds for a bad url or table
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"config.data.ibis_table={config.ibis_table!r} at config.data.ibis_url="
            f"{config.ibis_url!r} cannot be opened: {reason}"
        ) from error


def _check_file(url: str) -> None:
    kind, _, rest = url.partition("://")
    place = rest.partition("?")[0]
    if kind in ("duckdb", "sqlite") and not os.path.exists(place):
        raise UserError(f"config.data.ibis_url={url!r}: there is no file {place}")


def _connect(url: str) -> Any:
    if url == "spark":
        return open_spark()
    if url.startswith("duckdb://") and "read_only" not in url:
        url += ("&" if "?" in url else "?") + "read_only=True"
    return ibis.connect(url)


def _export(table: ir.Table, path: Path) -> None:
    backend = table.get_backend()
    if backend.name == "pyspark":
        backend.to_parquet_dir(table, str(path))
    else:
        backend.to_parquet(table, path)
