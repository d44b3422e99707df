"""Events of a log by kind, moments, and what came before them: what tables made of logs count.

Called by `view_outcomes`, `cart_outcomes` and `user_churn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.transforms import day_of_week, hour_of_day
from recjax.errors import UserError

KINDS = {  # what logs call them
    "view": ("view", "pv", "click"),
    "cart": ("cart", "addtocart"),
    "buy": ("buy", "purchase", "transaction"),
}
_NUMBERS = ("user_id", "item_id", "timestamp")
EVER = 1 << 60  # seconds


def read_events(path: Path) -> np.ndarray:
    """Returns user, item and time of all events, int64 [N, 3].

    Args:
        path: a Parquet file with user_id, item_id (numbers) and timestamp (seconds), or a folder
            that holds it as events.parquet.

    Raises:
        UserError: if the file or a column is missing.
    """
    return _numbers(_read(path, _NUMBERS))


def read_kinds(path: Path) -> dict[str, np.ndarray]:
    """Returns the events of each of `KINDS`, int64 [N, 3] as `read_events`.

    Args:
        path: as of `read_events`; with a column behavior (text) too.

    Raises:
        UserError: as `read_events`, or if a kind does not occur.
    """
    table = _read(path, (*_NUMBERS, "behavior"))
    behaviour = np.array(table.column("behavior").cast(pa.string()).to_pylist())
    rows = _numbers(table)
    events = {name: rows[np.isin(behaviour, words)] for name, words in KINDS.items()}
    for name, of_kind in events.items():
        if not len(of_kind):
            raise UserError(f"{path}: no {name} (behavior {', '.join(KINDS[name])})")
    return events


def count_before(
    moments: np.ndarray, events: np.ndarray, same: Sequence[int], *, later: int = 0
) -> np.ndarray:
    """Counts for each moment the events of the same user, item or pair before it.

    Args:
        moments: user, item, time, int64 [N, 3].
        events: int64 [M, 3], as `moments`.
        same: columns that must agree.
        later: seconds after the moment up to which events count; `EVER`: all.

    Returns:
        int64 [N].
    """
    both = np.concatenate([moments, events])
    owner = np.unique(both[:, list(same)], axis=0, return_inverse=True)[1].reshape(-1)
    times = np.unique(events[:, 2])
    span, size = len(times) + 1, len(moments)
    keys = np.sort(owner[size:] * span + np.searchsorted(times, events[:, 2]))
    first = owner[:size] * span
    last = first + np.searchsorted(times, moments[:, 2] + later)
    return np.searchsorted(keys, last) - np.searchsorted(keys, first)


def describe_moments(moments: np.ndarray) -> dict[str, pa.Array | np.ndarray]:
    """Returns the columns user, item, hour, weekday (texts) and timestamp of moments [N, 3]."""
    times = moments[:, 2]
    texts = {
        "user": moments[:, 0],
        "item": moments[:, 1],
        "hour": hour_of_day(times),
        "weekday": day_of_week(times),
    }
    columns = {name: pa.array(values).cast(pa.string()) for name, values in texts.items()}
    return {**columns, "timestamp": times}


def counts_of_kinds(moments: np.ndarray, kinds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns user_views, user_carts, ... item_buys before each moment, int64 [N] each."""
    return {
        f"{whose}_{name}s": count_before(moments, events, (place,))
        for place, whose in enumerate(("user", "item"))
        for name, events in kinds.items()
    }


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    path = path / "events.parquet" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path}: no such file; a log of events (Parquet) is expected")
    found = pq.read_schema(path).names
    missing = [name for name in columns if name not in found]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; it has {found}")
    return pq.read_table(path, columns=list(columns))


def _numbers(table: pa.Table) -> np.ndarray:
    columns = [table.column(name).cast(pa.int64()).to_numpy() for name in _NUMBERS]
    return np.stack(columns, axis=1)
