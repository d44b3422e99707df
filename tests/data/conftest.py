"""Settings, engines and small logs for the tests of the log room."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from configs import default
from recjax.data.engine import Engine
from recjax.data.settings import LogSettings, log_settings

START = 1_700_000_000  # seconds


@pytest.fixture
def make_settings() -> Callable[..., LogSettings]:
    """Makes settings of the default config with dotted overrides: make(path, {"prepare.x": 1})."""

    def make(path: str | Path = "", changes: dict[str, Any] | None = None) -> LogSettings:
        config = default.get_config()
        config.data.path = str(path)
        config.prepare.memory_gib = 0.5
        for key, value in (changes or {}).items():
            section = config
            *sections, name = key.split(".")
            for part in sections:
                section = section[part]
            section[name] = value
        return log_settings(config.data, config.prepare)

    return make


@pytest.fixture
def engine(tmp_path: Path, make_settings: Callable[..., LogSettings]) -> Iterator[Engine]:
    with Engine(make_settings().engine, tmp_path / "scratch") as opened:
        yield opened


@pytest.fixture
def random_log() -> Callable[..., list[dict[str, Any]]]:
    """Makes rows with repeated events, ties in time and uneven users; row counts from 1."""

    def make(seed: int, num_rows: int = 400, num_users: int = 12, num_items: int = 15) -> list:
        rng = np.random.default_rng(seed)
        users = (num_users * rng.random(num_rows) ** 2).astype(int)
        items = (num_items * rng.random(num_rows) ** 2).astype(int)
        times = START + rng.integers(0, 40, num_rows) * 600
        actions = rng.integers(1, 3, num_rows)
        return [
            {"row": row, "user": int(u), "item": int(i), "action": int(a), "timestamp": int(t)}
            for row, (u, i, a, t) in enumerate(zip(users, items, actions, times, strict=True), 1)
        ]

    return make


EVENT_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "user": pa.int32(),
        "item": pa.int32(),
        "action": pa.int8(),
        "timestamp": pa.int64(),
    }
)


@pytest.fixture
def store_events(engine: Engine) -> Callable[[list[dict[str, Any]]], Any]:
    """Puts rows of `random_log`, perhaps with further columns, into the engine as a table."""

    def store(rows: list[dict[str, Any]]) -> Any:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        table = pa.table(columns)
        for i, name in enumerate(table.column_names):
            if name in EVENT_SCHEMA.names:
                kind = EVENT_SCHEMA.field(name).type
                table = table.set_column(i, name, table[name].cast(kind))
        return engine.store(table, "events")

    return store


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, list[str]], Path]:
    def write(name: str, lines: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
