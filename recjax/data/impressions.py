"""Impressions: items that were shown, with position, label, propensity, and the part they are in.

An impression belongs to the part of its time: the global cut, or the user's own first valid and
test event under leave-one-out; or to the part of its held-out user or item. Items get vocabulary
ids in prepare_log.encode_log.
"""

import ibis
import ibis.expr.types as ir

from recjax.data import events as events_module
from recjax.data import readers, sources, tables, times
from recjax.data.engine import Engine
from recjax.data.quarantine import Quarantine
from recjax.data.readers import Fault
from recjax.data.settings import EventsConfig
from recjax.data.sources import SourceFile
from recjax.data.splits import TEST, TRAIN, VALID

PATH_KEY, COLUMNS_KEY = "config.data.impressions_path", "config.data.columns"
COLUMNS = (
    "impression_id", "user_id", "item_id", "timestamp", "position", "label", "propensity",
)  # fmt: skip
REQUIRED = ("user_id", "item_id", "timestamp", "label")


def read_impressions(
    engine: Engine, config: EventsConfig, quarantine: Quarantine
) -> ir.Table | None:
    """Returns row and COLUMNS, typed, missing optional ones as null; None if there is no such file.

    A column that config.data.columns maps to '' is looked for under our own name.

    Raises:
        UserError: if the file or a required column is missing, or too many rows are bad.
    """
    if not config.impressions_path:
        return None
    files = sources.describe_all(
        config.impressions_path, PATH_KEY, config.columns.values(), config.delimiter
    )
    mapped = [_mapping(file, config) for file in files]
    raw = readers.open_mapped(engine, files[0], {"timestamp": mapped[0]["timestamp"]})
    how = events_module.check_times(
        files[0], mapped[0]["timestamp"], readers.sample(engine, raw, "timestamp"), raw, config
    )
    parts = tables.read_parts(
        engine,
        zip(files, mapped, strict=True),
        lambda raw: make_columns(raw, how),
        quarantine,
        "impressions",
    )
    quarantine.check(config.impressions_path, parts.num_rows, dict)
    return parts.good_rows(engine)


def make_columns(raw: ir.Table, how: times.TimeFormat) -> tuple[dict[str, ir.Value], list[Fault]]:
    """Returns the typed columns of raw impressions, and what can be wrong with them."""
    columns: dict[str, ir.Value] = {
        "user_id": readers.as_id(raw.user_id),
        "item_id": readers.as_id(raw.item_id),
        "timestamp": events_module.seconds(raw, how),
    }
    faults = [(column.isnull(), f"{name} is missing") for name, column in columns.items()]
    columns["impression_id"] = ibis.null("string")
    if "impression_id" in raw.columns:
        columns["impression_id"] = readers.as_id(raw.impression_id)
    for name, kind in (("position", "int32"), ("label", "int8"), ("propensity", "float32")):
        columns[name], fault = _number(raw, name, kind)
        faults += fault
    return columns, faults


def assign_parts(impressions: ir.Table, events: ir.Table, facts: dict[str, object]) -> ir.Table:
    """Returns `impressions` (user, item, timestamp, ...) with part int8.

    Args:
        impressions: user and item numbered as in `events`.
        events: user, item, timestamp, part.
        facts: Split.facts.
    """
    if facts["method"] == "time":
        when = impressions.timestamp
        part = (when >= facts["valid_time"]).cast("int8") + (when >= facts["test_time"]).cast(
            "int8"
        )
        return impressions.mutate(part=part.cast("int8"))
    if facts["method"] == "leave_one_out":
        return _by_own_times(impressions, events)
    side = str(facts["held_out"])
    parts = events.select(side, "part").distinct()
    joined = impressions.left_join(parts, side)
    return joined.select(*impressions.columns, part=joined.part.fill_null(TRAIN).cast("int8"))


def _by_own_times(impressions: ir.Table, events: ir.Table) -> ir.Table:
    opens = events.group_by("user").agg(
        valid_time=events.timestamp.min(where=events.part == VALID),
        test_time=events.timestamp.min(where=events.part == TEST),
    )
    joined = impressions.left_join(opens, "user")
    part = ibis.cases(
        (joined.timestamp >= joined.test_time, TEST),
        (joined.timestamp >= joined.valid_time, VALID),
        else_=TRAIN,
    )
    return joined.select(*impressions.columns, part=part.cast("int8"))


def _number(raw: ir.Table, name: str, kind: str) -> tuple[ir.Value, list[Fault]]:
    if name not in raw.columns:
        return ibis.null(kind), []
    column = raw[name].cast("int8") if raw[name].type().is_boolean() else raw[name]
    number, wrong = readers.as_number(column, kind)
    faults = [(wrong, f"{name} is not a number")]
    if name == "label":
        faults.append((number.isnull() | ~number.isin([0, 1]), "label is not 0 or 1"))
    if name == "propensity":
        faults.append(
            (number.notnull() & ~((number > 0) & (number <= 1)), "propensity is not in (0, 1]")
        )
    return number, faults


def _mapping(file: SourceFile, config: EventsConfig) -> dict[str, str]:
    named = {name: config.columns[name] or name for name in COLUMNS}
    kept = {
        ours: theirs
        for ours, theirs in named.items()
        if ours in REQUIRED or config.columns[ours] or theirs in file.columns
    }
    return sources.require_all(file, kept, REQUIRED, COLUMNS_KEY)
