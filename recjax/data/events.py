"""The behaviour log as typed rows: ids as text, action ids, whole seconds, and why a row is bad.

Files of any kind come in (sources.py), one folder of typed Parquet parts goes out; bad rows go to
quarantine. What is odd but readable (repeats, bots, impossible clocks) is cleaning.py's.
"""

import dataclasses
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from recjax.data import readers, sources, tables, times
from recjax.data.engine import Engine
from recjax.data.quarantine import Quarantine
from recjax.data.readers import Fault
from recjax.data.settings import EventsConfig
from recjax.data.sources import SourceFile
from recjax.data.tables import Parts
from recjax.errors import UserError

KEY = "config.data.columns"
NUMBERS = {"rating": "float32", "price": "float32"}
TEXTS = ("session_id", "query", "text", "platform")
UNKNOWN_ACTION = "unknown action"
UNREADABLE_TIME = "timestamp cannot be read"


@dataclasses.dataclass(frozen=True)
class TypedLog:
    """Readable rows of a log.

    Attributes:
        parts: user_id and item_id string (item_id null for searches without one), action int8,
            timestamp int64 and `extras`.
        extras: optional columns that the log has, in order.
        time: how the times were written; unit "order" means timestamp is no clock.
        order: columns that put one user's events in order.
    """

    parts: Parts
    extras: tuple[str, ...]
    time: times.TimeFormat
    order: tuple[str, str]


def read_events(engine: Engine, config: EventsConfig, quarantine: Quarantine) -> TypedLog:
    """Reads all events of `config.path`, good rows to scratch, bad rows to quarantine.

    Raises:
        UserError: if a file or column is missing, a file is empty, times cannot be read, or too
            many rows are bad.
    """
    files = describe_files(config)
    time = time_format(engine, files[0], config)
    mapped = [mapping(file, config) for file in files]
    parts = tables.read_parts(
        engine,
        zip(files, mapped, strict=True),
        lambda raw: make_columns(raw, config, time),
        quarantine,
        "events",
    )
    if not parts.num_rows:
        raise UserError(f"config.data.path: {config.path} holds no event")
    quarantine.check(
        config.path, parts.num_rows, lambda: _hints(engine, parts.folder, mapped[0], config)
    )
    order = ("row", "timestamp") if files[0].format == "sequences" else ("timestamp", "row")
    extras = tuple(name for name in (*NUMBERS, *TEXTS) if name in mapped[0])
    return TypedLog(parts, extras, time, order)


def describe_files(config: EventsConfig) -> list[SourceFile]:
    """Returns the files of the log with their columns.

    Raises:
        UserError: if there is none, one is empty, or a mapped column is missing.
    """
    described = []
    for path in sources.find_files(config.path, "config.data.path"):
        wanted = config.columns.values()
        file = sources.describe(path, config.format, config.delimiter, wanted)
        mapping(file, config)
        described.append(file)
    return described


def mapping(file: SourceFile, config: EventsConfig) -> dict[str, str]:
    """Returns {our name: file's column} of the columns that `file` has."""
    if file.format == "sequences":
        return {name: name for name in sources.SEQUENCE_COLUMNS}
    for ours in ("user_id", "item_id"):
        if not config.columns[ours]:
            raise UserError(f"{KEY}.{ours} is ''; every log needs this column")
    return sources.require_columns(file, dict(config.columns), KEY)


def time_format(engine: Engine, file: SourceFile, config: EventsConfig) -> times.TimeFormat:
    """Returns how the times of the log are written.

    Raises:
        UserError: if most of the first values cannot be read as times.
    """
    mapped = mapping(file, config)
    if file.format == "sequences" or "timestamp" not in mapped:
        return times.TimeFormat("order")
    raw = readers.open_mapped(engine, file, {"timestamp": mapped["timestamp"]})
    values = readers.sample(engine, raw, "timestamp")
    return check_times(file, mapped["timestamp"], values, raw, config)


def check_times(
    file: SourceFile, name: str, values: list[Any], raw: ir.Table, config: EventsConfig
) -> times.TimeFormat:
    """Returns how the times in `values`, of the column `name`, are written.

    Raises:
        UserError: if most of them cannot be read.
    """
    how = times.guess_time_format(values, str(raw.schema()["timestamp"]), config.time_unit)
    if how is None:
        shown = ", ".join(repr(value) for value in values[:3]) or "nothing"
        raise UserError(
            f"{file.path}: column {name!r} ({KEY}.timestamp) holds no readable times (first rows: "
            f"{shown}); seconds since 1970 or '2024-01-31 12:00:00' are, or set "
            "config.data.time_unit, or map '' and let the rows' order be the time"
        )
    return how


def make_columns(
    raw: ir.Table, config: EventsConfig, time: times.TimeFormat
) -> tuple[dict[str, ir.Value], list[Fault]]:
    """Returns the typed columns of raw events, and what can be wrong with them."""
    columns: dict[str, ir.Value] = {
        "user_id": readers.as_id(raw.user_id),
        "item_id": readers.as_id(raw.item_id),
        "action": _action_ids(raw, config),
        "timestamp": seconds(raw, time),
    }
    faults = [
        (columns["user_id"].isnull(), "user_id is missing"),
        (columns["action"].isnull(), UNKNOWN_ACTION),
        (_needs_item(columns, config), "item_id is missing"),
        (columns["timestamp"].isnull(), UNREADABLE_TIME),
    ]
    for name in (name for name in NUMBERS if name in raw.columns):
        columns[name], wrong = readers.as_number(raw[name], NUMBERS[name])
        faults.append((wrong, f"{name} is not a number"))
    columns |= {name: readers.as_text(raw[name]) for name in TEXTS if name in raw.columns}
    return columns, faults


def _action_ids(raw: ir.Table, config: EventsConfig) -> ir.IntegerValue:
    """Returns the index in config.actions; null for a value that is none of them."""
    actions = list(config.actions)
    if "action" not in raw.columns:
        return ibis.literal(actions.index(config.default_action), "int8")
    names = {action.lower(): action for action in actions}
    names |= {str(value).lower(): action for value, action in config.action_names.items()}
    value = readers.as_id(raw.action).lower()
    branches = [(value == name, actions.index(action)) for name, action in names.items()]
    return ibis.cases(*branches, else_=ibis.null("int64")).cast("int8")


def seconds(raw: ir.Table, time: times.TimeFormat) -> ir.IntegerValue:
    """Returns the timestamp column as seconds, or as numbers that only say the order."""
    if "timestamp" not in raw.columns:
        return ibis.literal(0, "int64")
    if time.unit == "order":
        return times.epoch_seconds(raw.timestamp, times.TimeFormat("seconds"))
    return times.epoch_seconds(raw.timestamp, time)


def _needs_item(columns: dict[str, ir.Value], config: EventsConfig) -> ir.BooleanValue:
    missing = columns["item_id"].isnull()
    if "search" not in config.actions:
        return missing
    return missing & (columns["action"] != config.actions.index("search"))


def _hints(
    engine: Engine, folder: Path, mapped: dict[str, str], config: EventsConfig
) -> dict[str, str]:
    """Returns what would be right, by reason; asked for only when a run ends for it."""
    known = ", ".join(config.actions)
    return {
        UNKNOWN_ACTION: f"unknown values: {_unknown_actions(engine, folder, mapped)}; known: "
        f"{known}. Map them by config.data.action_names, e.g. {{'pv': 'view'}}, or add them to "
        "config.data.actions",
        UNREADABLE_TIME: "seconds since 1970 or date-times are readable; config.data.time_unit "
        "names the unit where the guess is wrong",
    }


def _unknown_actions(engine: Engine, folder: Path, mapped: dict[str, str]) -> str:
    if "action" not in mapped:
        return ""
    rows = engine.read_embedded(folder)
    bad = rows.filter(rows.reason == UNKNOWN_ACTION)
    pointer = "/" + mapped["action"].replace("~", "~0").replace("/", "~1")
    values = bad.select(value=_json_text(bad["values"], pointer))
    counts = values.group_by("value").agg(num=values.count())
    top = counts.order_by([counts.num.desc(), "value"]).limit(20)
    return ", ".join(f"{row['value']!r} ({row['num']} rows)" for row in engine.rows(top))


@ibis.udf.scalar.builtin(name="json_extract_string")
def _json_text(json: str, pointer: str) -> str:
    """DuckDB's own."""
    raise NotImplementedError
