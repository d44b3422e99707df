"""Users: attributes as they were at the end of training, and the final user numbers.

Attributes come from a user table, by name, several rows per user if each has its valid-from time.
The table written, users.parquet, has one row per user of the log, and one per user that only the
table knows: those are cold.
"""

import dataclasses
from pathlib import Path

import ibis
import ibis.expr.types as ir

from recjax.data import readers, sources, tables, times
from recjax.data.codes import CodedLog
from recjax.data.engine import Engine
from recjax.data.quarantine import Quarantine
from recjax.data.readers import Fault
from recjax.data.settings import UsersConfig
from recjax.data.sources import SourceFile
from recjax.data.splits import TRAIN
from recjax.errors import UserError

PATH_KEY, COLUMNS_KEY = "config.data.users_path", "config.data.users_columns"
RESERVED = ("user", "num_train_events", "is_cold", "row", "place", "until")
REPEATED = "user_id comes again in a later row"


@dataclasses.dataclass(frozen=True)
class Attributes:
    """A user table.

    Attributes:
        rows: row int64, user_id string, valid_from int64 seconds (if mapped), the attributes.
        names: of the attributes.
    """

    rows: ir.Table
    names: tuple[str, ...]


def read_users(
    engine: Engine, config: UsersConfig, quarantine: Quarantine, has_clock: bool
) -> Attributes | None:
    """Returns the user table, or None if the config names none.

    Without valid-from times the last row of a user counts; earlier ones go to quarantine.

    Raises:
        UserError: if a file or column is missing, an attribute has a name of ours, times cannot be
            read or compared, or too many rows are bad.
    """
    if not config.users_path:
        return None
    columns = dict(config.users_columns)
    files = sources.describe_all(config.users_path, PATH_KEY, columns.values())
    mapped = [_mapping(file, columns) for file in files]
    how = _time_format(engine, files[0], columns, has_clock)
    parts = tables.read_parts(
        engine,
        zip(files, mapped, strict=True),
        lambda raw: make_columns(raw, how),
        quarantine,
        "users_file",
    )
    rows = parts.good_rows_embedded(engine)
    if how is None:
        rows = _last_rows(engine, rows, config, quarantine)
    quarantine.check(config.users_path, parts.num_rows, dict)
    known = ("row", "user_id", "valid_from")
    rows = engine.hand_over(rows, "user_rows")
    return Attributes(rows, tuple(name for name in rows.columns if name not in known))


def make_columns(
    raw: ir.Table, how: times.TimeFormat | None
) -> tuple[dict[str, ir.Value], list[Fault]]:
    """Returns the typed columns of raw user rows, and what can be wrong with them."""
    columns: dict[str, ir.Value] = {"user_id": readers.as_id(raw.user_id)}
    faults = [(columns["user_id"].isnull(), "user_id is missing")]
    if how is not None:
        columns["valid_from"] = times.epoch_seconds(raw.valid_from, how)
        faults.append((columns["valid_from"].isnull(), "valid_from cannot be read"))
    mapped = {"row", *columns}
    others = {name: raw[name] for name in raw.columns if name not in mapped and name[:2] != "__"}
    return columns | others, faults


def number_users(
    engine: Engine, log: CodedLog, attributes: Attributes | None, bots: ir.Table, adds_cold: bool
) -> ir.Table:
    """Returns user_id, code (int32, null for users without events) and user, 0.. by user_id.

    Args:
        engine: the table engine.
        log: cleaned events.
        attributes: the user table, if there is one.
        bots: codes of users never to be listed.
        adds_cold: whether users that only the user table knows are listed.
    """
    present = log.users.semi_join(log.events.select("user").distinct(), "user")
    known = present.select("user_id", code="user")
    if attributes is not None and adds_cold:
        out = log.users.semi_join(bots, "user").select("user_id")
        extra = attributes.rows.select("user_id").distinct()
        extra = extra.anti_join(known, "user_id").anti_join(out, "user_id")
        known = ibis.union(known, extra.mutate(code=ibis.null("int32")).select("user_id", "code"))
    number = ibis.row_number().over(order_by=known.user_id).cast("int32")
    return engine.keep(known.mutate(user=number), "user_numbers")


def write_users(
    engine: Engine,
    path: Path,
    numbers: ir.Table,
    events: ir.Table,
    attributes: Attributes | None,
    train_end: int | None,
) -> int:
    """Writes users.parquet sorted by user; returns its rows.

    Args:
        engine: the table engine.
        path: where to.
        numbers: of `number_users`.
        events: final user, timestamp, part.
        attributes: the user table, if there is one.
        train_end: first second after training, for all users; None: each user's own last training
            event decides (users without one: the last of all).
    """
    train = events.filter(events.part == TRAIN)
    ends = train.group_by("user").agg(num=train.count(), last=train.timestamp.max())
    users = numbers.left_join(ends, "user").select("user", "user_id", "num", "last")
    last_of_all = engine.rows(train.aggregate(last=train.timestamp.max()))[0]["last"]
    until = ibis.literal(train_end - 1) if train_end is not None else users["last"]
    users = users.mutate(until=until.fill_null(last_of_all).cast("int64"))
    count = users.num.fill_null(0).cast("int32")
    table = users.mutate(num_train_events=count, is_cold=count == 0).drop("num", "last")
    if attributes is not None:
        current = _current(attributes, users)
        table = table.left_join(current, "user_id").select(*table.columns, *attributes.names)
    return engine.write(table.drop("until"), path, ("user",))


def _current(attributes: Attributes, users: ir.Table) -> ir.Table:
    """Returns per user_id the attributes of the latest row valid at the end of training."""
    rows = attributes.rows
    if "valid_from" not in rows.columns:
        return rows.select("user_id", *attributes.names)
    valid = rows.inner_join(users.select("user_id", "until"), "user_id")
    valid = valid.filter(valid.valid_from <= valid.until)
    latest = ibis.window(
        group_by=valid.user_id, order_by=[valid.valid_from.desc(), valid.row.desc()]
    )
    ranked = valid.mutate(place=ibis.row_number().over(latest))
    return ranked.filter(ranked.place == 0).select("user_id", *attributes.names)


def _last_rows(
    engine: Engine, rows: ir.Table, config: UsersConfig, quarantine: Quarantine
) -> ir.Table:
    window = ibis.window(group_by=rows.user_id, order_by=rows.row.desc())
    ranked = engine.keep(rows.mutate(place=ibis.row_number().over(window)), "users_ranked")
    repeated = ranked.filter(ranked.place > 0)
    values = readers.row_values(repeated, {"user_id": "user_id"})
    quarantine.add_rows_of(config.users_path, repeated.select("row", values=values), REPEATED)
    return ranked.filter(ranked.place == 0).drop("place")


def _mapping(file: SourceFile, columns: dict[str, str]) -> dict[str, str]:
    mapped = sources.require_all(file, columns, ("user_id",), COLUMNS_KEY)
    mapped |= sources.other_columns(file, mapped, COLUMNS_KEY)
    for name in RESERVED:
        if name in mapped:
            raise UserError(
                f"{file.path}: the attribute {name!r} has a name that recjax uses itself; give it "
                f"another in {COLUMNS_KEY}, e.g. 'user_{name}': {name!r}"
            )
    return mapped


def _time_format(
    engine: Engine, file: SourceFile, columns: dict[str, str], has_clock: bool
) -> times.TimeFormat | None:
    name = columns.get("valid_from", "")
    if not name:
        return None
    if not has_clock:
        raise UserError(
            f"{COLUMNS_KEY}.valid_from={name!r} needs a log with clock times to compare with; this "
            "log only has an order. Set the key to ''"
        )
    raw = readers.open_mapped(engine, file, {"valid_from": name})
    values = readers.sample(engine, raw, "valid_from")
    how = times.guess_time_format(values, str(raw.schema()["valid_from"]))
    if how is None or how.unit == "order":
        raise UserError(
            f"{file.path}: column {name!r} ({COLUMNS_KEY}.valid_from) holds no readable times "
            f"(first values: {', '.join(map(repr, values[:3]))})"
        )
    return how
