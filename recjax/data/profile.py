"""A data profile: how many events, users, items and sessions a log has, and how they are spread.

Called before and after cleaning (prepare_log.py) and on a stranger's file (check.py). Distributions
are fetched as histograms (count: how many have it): exact, and small in memory.
"""

from collections.abc import Sequence
from typing import Any

import ibis.expr.types as ir
import numpy as np

from recjax.data.codes import NO_ITEM
from recjax.data.engine import Engine
from recjax.data.sessions import count_sessions


def make_profile(
    engine: Engine, events: ir.Table, actions: Sequence[str], gap_seconds: int
) -> dict[str, Any]:
    """Returns the profile of `events`.

    Args:
        engine: the table engine.
        events: row, user, item (NO_ITEM for none), action, timestamp; session_id if it has one.
        actions: names of the action ids.
        gap_seconds: longest pause within a session.

    Returns:
        events, users, items, sessions, actions {name: events}, first_time, last_time (timestamps),
        events_per_user {mean, median, p90, max}, items_90pct_of_events (how many of the
        most frequent items hold 90 % of the events), density (events per user-item pair).
    """
    total = engine.rows(
        events.aggregate(
            events=events.count(), first=events.timestamp.min(), last=events.timestamp.max()
        )
    )[0]
    per_user, num_users = _histogram(engine, events, "user")
    per_item, num_items = _histogram(engine, events.filter(events.item != NO_ITEM), "item")
    sessions = engine.rows(count_sessions(events, gap_seconds))[0]["sessions"]
    num_item_events = int(per_item @ num_items)
    pairs = int(num_users.sum()) * int(num_items.sum())
    return {
        "events": total["events"],
        "users": int(num_users.sum()),
        "items": int(num_items.sum()),
        "sessions": int(sessions or 0),
        "actions": _count_actions(engine, events, actions),
        "first_time": total["first"],
        "last_time": total["last"],
        "events_per_user": summarize(per_user, num_users),
        "items_90pct_of_events": num_top_items(per_item, num_items, 0.9),
        "density": num_item_events / pairs if pairs else 0.0,
    }


def summarize(values: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Returns mean, median, 90th percentile and maximum of a histogram.

    Args:
        values: int64 [N] ascending values.
        counts: int64 [N], how often each occurs.

    Example:
        >>> summarize(np.array([1, 5]), np.array([3, 1]))
        {'mean': 2.0, 'median': 1, 'p90': 5, 'max': 5}
    """
    if not len(values):
        return {"mean": 0.0, "median": 0, "p90": 0, "max": 0}
    reached = np.cumsum(counts)
    at = [int(values[np.searchsorted(reached, share * reached[-1])]) for share in (0.5, 0.9)]
    mean = float(values @ counts / reached[-1])
    return {"mean": mean, "median": at[0], "p90": at[1], "max": int(values[-1])}


def num_top_items(values: np.ndarray, counts: np.ndarray, share: float) -> int:
    """Returns how many of the most frequent items hold `share` of the events.

    Example:
        >>> num_top_items(np.array([1, 90]), np.array([10, 1]), 0.9)
        1
    """
    wanted = share * float(values @ counts)
    taken = 0
    for value, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        if wanted <= value * count:
            return taken + int(np.ceil(wanted / value))
        wanted -= value * count
        taken += count
    return taken


def _histogram(engine: Engine, events: ir.Table, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns event counts (ascending) and how many users or items have each."""
    counts = events.group_by(side).agg(num=events.count())
    spread = counts.group_by("num").agg(times=counts.count()).order_by("num")
    rows = engine.rows(spread)
    values = np.array([row["num"] for row in rows], np.int64)
    return values, np.array([row["times"] for row in rows], np.int64)


def _count_actions(engine: Engine, events: ir.Table, actions: Sequence[str]) -> dict[str, int]:
    rows = engine.rows(events.group_by("action").agg(num=events.count()))
    counts = {row["action"]: row["num"] for row in rows}
    return {name: counts[i] for i, name in enumerate(actions) if i in counts}
