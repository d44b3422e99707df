"""Proof that no held-out knowledge reached the training part; a leak ends the run.

`check_leakage` looks at the finished parts only, not at how they were made, so it catches a wrong
split as well as a table that was changed later. Called by prepare_log.py; others may call it again.
"""

from collections.abc import Mapping
from typing import Any

import ibis.expr.types as ir

from recjax.data.codes import NO_ITEM
from recjax.data.engine import Engine
from recjax.data.splits import PARTS, TEST, TRAIN, VALID
from recjax.data.times import as_text
from recjax.errors import UserError


def check_leakage(engine: Engine, events: ir.Table, facts: Mapping[str, Any]) -> None:
    """Fails if an event, user or item stands where the split says it must not.

    Args:
        engine: the table engine.
        events: user, item, timestamp, part; with a column row, also the same event is looked for
            in two parts.
        facts: Split.facts: method and, for "time", valid_time and test_time.

    Raises:
        UserError: names the leak and an example.
    """
    if "row" in events.columns:
        _check_same_event(engine, events)
    method = facts["method"]
    if method == "time":
        _check_time_cut(engine, events, facts)
    elif method == "leave_one_out":
        _check_user_order(engine, events)
    else:
        _check_held_out(engine, events, "item" if method == "cold_items" else "user")


def _check_same_event(engine: Engine, events: ir.Table) -> None:
    """One source row gives one event (a sequence line several, at different places)."""
    key = ["user", "row", "timestamp"]
    held = events.filter(events.part != TRAIN).select(*key, held_part="part")
    twice = events.inner_join(held, key)
    _fail(engine, twice.filter(twice.part != twice.held_part), "the same event is in two parts")


def _check_time_cut(engine: Engine, events: ir.Table, facts: Mapping[str, Any]) -> None:
    bounds = {TRAIN: (None, facts["valid_time"]), TEST: (facts["test_time"], None)}
    bounds[VALID] = (facts["valid_time"], facts["test_time"])
    for part, (first, end) in bounds.items():
        rows = events.filter(events.part == part)
        if first is not None:
            early = rows.filter(rows.timestamp < first)
            _fail(engine, early, f"a {PARTS[part]} event lies before {as_text(first)}")
        if end is not None:
            late = rows.filter(rows.timestamp >= end)
            _fail(engine, late, f"a {PARTS[part]} event lies at or after the cut {as_text(end)}")


def _check_user_order(engine: Engine, events: ir.Table) -> None:
    """Within a user no event of a part may come before one of an earlier part."""
    spans = events.group_by(["user", "part"]).agg(
        first=events.timestamp.min(), last=events.timestamp.max()
    )
    spans = engine.keep(spans, "spans")
    later = spans.select("user", later_part="part", later_first="first")
    pairs = spans.inner_join(later, "user")
    wrong = pairs.filter((pairs.part < pairs.later_part) & (pairs["last"] > pairs.later_first))
    _fail(engine, wrong, "a user's event lies after an event of a later part")


def _check_held_out(engine: Engine, events: ir.Table, side: str) -> None:
    known = events.filter(events.item != NO_ITEM) if side == "item" else events
    spans = known.group_by(side).agg(first=known.part.min(), last=known.part.max())
    _fail(engine, spans.filter(spans["first"] != spans["last"]), f"one {side} is in two parts")


def _fail(engine: Engine, leaks: ir.Table, what: str) -> None:
    found = engine.rows(leaks.limit(1))
    if found:
        raise UserError(
            f"leak: {what}, {engine.count(leaks)} times, first {found[0]}; the prepared data must "
            "not be used. Prepare again (--redo prepare)"
        )
