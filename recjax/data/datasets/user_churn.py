"""Who stays away: a log as a table, one row a user who was here in the days before a cut.

Cuts stand `horizon_days` apart, counted back from the end of the log; at each, users with an event
in the days before it have a row, and `churned` says that none followed in the days after. So no
two cuts judge the same days. Everything else is known at the cut. Called by
`recjax.data.row_tables`, which splits the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data.datasets.event_counts import read_events
from recjax.data.transforms import SECONDS_PER_DAY as DAY
from recjax.errors import UserError


def read_user_churn(path: Path, horizon_days: int) -> dict[str, pa.Table]:
    """Returns the rows of a log, as `churn_rows`.

    Args:
        path: as of `event_counts.read_events`.
        horizon_days: days before and after a cut.

    Raises:
        UserError: if the file or a column is missing, or the log is shorter than twice the days.
    """
    return {"train": churn_rows(read_events(path), horizon_days, path)}


def read_invoice_churn(path: Path, horizon_days: int) -> dict[str, pa.Table]:
    """Returns the rows of customers of UCI Online Retail, as `churn_rows`; cancellations left out.

    Args:
        path: as of the data set `online_retail`.
        horizon_days: days before and after a cut.

    Raises:
        UserError: if the file or a column is missing, or the log is shorter than twice the days.
    """
    from recjax.data.datasets.online_retail import iter_purchases

    lines = pa.Table.from_batches(list(iter_purchases(path)))
    users, items = (
        lines.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
        for name in ("CustomerID", "StockCode")
    )
    times = lines.column("InvoiceDate").to_numpy()
    return {"train": churn_rows(np.stack([users, items, times], axis=1), horizon_days, path)}


def churn_rows(events: np.ndarray, horizon_days: int, path: Path) -> pa.Table:
    """Returns a row for each cut and user who was here before it.

    Columns: user, timestamp (of the cut); days_since_last, days_since_first; events, items
    (different ones), days_active, all before the cut; events_recent, days_recent, in the days
    before it; churned.

    Args:
        events: user, item, time in seconds, int64 [N, 3].
        horizon_days: days before and after a cut.
        path: for messages.

    Raises:
        UserError: if the log is shorter than twice the days.
    """
    events = events[np.lexsort((events[:, 2], events[:, 0]))]
    horizon, start, end = horizon_days * DAY, events[:, 2].min(), events[:, 2].max()
    cuts = np.arange(end - horizon, start + horizon - 1, -horizon)[::-1]
    if not len(cuts):
        raise UserError(
            f"{path}: the log has {(end - start) // DAY} days, fewer than twice "
            f"config.data.table.horizon_days={horizon_days}"
        )
    return pa.concat_tables([_rows_of_cut(events, int(cut), horizon) for cut in cuts])


def _rows_of_cut(events: np.ndarray, cut: int, horizon: int) -> pa.Table:
    """Rows of one cut; an event at the cut itself is before it."""
    known = events[events[:, 2] <= cut]
    users, first = np.unique(known[:, 0], return_index=True)
    sizes = np.diff(np.append(first, len(known)))
    times, recent = known[:, 2], known[:, 2] > cut - horizon
    days = _is_first(known[:, 0], times // DAY)

    def total(counted: np.ndarray) -> np.ndarray:
        return np.add.reduceat(counted.astype(np.int64), first)

    after = events[(events[:, 2] > cut) & (events[:, 2] <= cut + horizon), 0]
    columns = {
        "user": pa.array(users).cast(pa.string()),
        "timestamp": np.full(len(users), cut),
        "days_since_last": (cut - times[first + sizes - 1]) / DAY,
        "days_since_first": (cut - times[first]) / DAY,
        "events": sizes,
        "items": total(_is_first(known[:, 0], known[:, 1])),
        "days_active": total(days),
        "events_recent": total(recent),
        "days_recent": total(days & recent),
        "churned": (~np.isin(users, after)).astype(np.int8),
    }
    return pa.table(columns).filter(pa.array(columns["events_recent"] > 0))


def _is_first(owner: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Marks the first of each pair of owner and value, bool [N]."""
    first = np.zeros(len(owner), bool)
    first[np.unique(np.stack([owner, value], axis=1), axis=0, return_index=True)[1]] = True
    return first
