"""Ids as dense integers, so that cleaning moves narrow rows instead of texts.

`user` and `item` codes count from 0 in the order of the id's text; a search without an item has the
item `NO_ITEM`. They are internal to the log room: final users and vocabulary ids are given later.
"""

import dataclasses

import ibis
import ibis.expr.types as ir

from recjax.data.engine import Engine
from recjax.data.events import TypedLog
from recjax.errors import UserError

NO_ITEM = -1
KEYS = ("row", "user", "item", "action", "timestamp")


@dataclasses.dataclass(frozen=True)
class CodedLog:
    """A log in codes, on the main backend.

    Attributes:
        events: row int64, user int32, item int32, action int8, timestamp int64, and the extras.
        users: user int32, user_id string.
        items: item int32, item_id string.
        has_clock: whether timestamps are seconds; else they count each user's events from 0.
    """

    events: ir.Table
    users: ir.Table
    items: ir.Table
    has_clock: bool


def code_events(engine: Engine, log: TypedLog, path: str) -> CodedLog:
    """Gives every user and item of a typed log its code.

    Raises:
        UserError: if all events have the same user or the same item; `path` names the log.
    """
    rows = log.parts.good_rows(engine)
    users = engine.keep(_codes(rows.select(id=rows.user_id), "user"), "users")
    items = engine.keep(_codes(rows.select(id=rows.item_id), "item"), "items")
    for name, table in (("user_id", users), ("item_id", items)):
        _check_distinct(engine, table, name, path)
    coded = rows.join(users, "user_id").left_join(items, "item_id")
    extras = {name: coded[name] for name in log.extras}
    has_clock = log.time.unit != "order"
    events = coded.select(
        row=coded.row,
        user=coded.user,
        item=coded.item.fill_null(NO_ITEM).cast("int32"),
        action=coded.action,
        timestamp=coded.timestamp if has_clock else _places(coded, log.order),
        **extras,
    )
    return CodedLog(engine.keep(events, "coded"), users, items, has_clock)


def _codes(ids: ir.Table, name: str) -> ir.Table:
    distinct = ids.filter(ids.id.notnull()).distinct()
    code = ibis.row_number().over(order_by=distinct.id).cast("int32")
    return distinct.select(**{name: code, f"{name}_id": distinct.id})


def _places(coded: ir.Table, order: tuple[str, str]) -> ir.IntegerColumn:
    window = ibis.window(group_by=coded.user, order_by=[coded[name] for name in order])
    return ibis.row_number().over(window).cast("int64")


def _check_distinct(engine: Engine, ids: ir.Table, name: str, path: str) -> None:
    first = engine.rows(ids.limit(2))
    if not first:
        raise UserError(f"{path}: no event carries an {name}; nothing can be learned from it")
    if len(first) == 1:
        raise UserError(
            f"{path}: every event has the same {name}, {first[0][name]!r}; "
            f"is config.data.columns.{name} the right column?"
        )
