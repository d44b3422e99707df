"""Sessions: one user's events without a long gap between them, or as the log itself names them."""

import ibis
import ibis.expr.types as ir


def session_starts(events: ir.Table, gap_seconds: int) -> ir.BooleanColumn:
    """Returns whether an event opens a session.

    It does if it is its user's first, if the log names another session than at the event before,
    or, where one of the two has no named session, if more than `gap_seconds` passed.

    Args:
        events: user, timestamp, row and, where the log has it, session_id.
        gap_seconds: longest pause within a session.
    """
    window = ibis.window(group_by=events.user, order_by=[events.timestamp, events.row])
    before = events.timestamp.lag(1).over(window)
    after_pause = events.timestamp - before > gap_seconds
    if "session_id" in events.columns:
        previous = events.session_id.lag(1).over(window)
        both = events.session_id.notnull() & previous.notnull()
        after_pause = ibis.ifelse(both, events.session_id != previous, after_pause)
    return before.isnull() | after_pause


def number_sessions(events: ir.Table, gap_seconds: int) -> ir.Table:
    """Returns `events` with `session` int32: 0, 1, ... within each user, in time order."""
    marked = events.mutate(starts=session_starts(events, gap_seconds).cast("int32"))
    window = ibis.window(
        group_by=marked.user, order_by=[marked.timestamp, marked.row], preceding=None, following=0
    )
    number = (marked.starts.sum().over(window) - 1).cast("int32")
    return marked.mutate(session=number).drop("starts")


def count_sessions(events: ir.Table, gap_seconds: int) -> ir.Table:
    """Returns one row, `sessions`: how many there are in all, numbered ones if they are."""
    if "session" in events.columns:
        numbered = events.select("user", "session").distinct()
        return numbered.aggregate(sessions=numbered.count())
    starts = events.select(starts=session_starts(events, gap_seconds).cast("int64"))
    return starts.aggregate(sessions=starts.starts.sum())
