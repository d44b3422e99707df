"""What came of views: a log of views, carts and purchases as a table, one row a viewed pair.

`taken` says whether user u put item i into the cart, or bought it, after viewing it; `bought`
whether u bought it. Pairs taken before the view are left out. Counts are of what happened before
the view. Called by `recjax.data.row_tables`, which splits the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.transforms import day_of_week, hour_of_day
from recjax.errors import UserError

ACTIONS = {  # what logs call them
    "view": ("view", "pv", "click"),
    "cart": ("cart", "addtocart"),
    "buy": ("buy", "purchase", "transaction"),
}
COLUMNS = ("user_id", "item_id", "behavior", "timestamp")


def read_view_outcomes(folder: Path, seed: int) -> dict[str, pa.Table]:
    """Returns all rows as the part train.

    Columns: user, item, hour, weekday, timestamp, six counts (user_views ... item_buys: events of
    the user, or of the item, before the view), taken, bought.

    Args:
        folder: a Parquet file with user_id, item_id (numbers), behavior (text), timestamp
            (seconds), or a folder that holds it as events.parquet.
        seed: not looked at, nothing is drawn.

    Raises:
        UserError: if the file or a column is missing, or a kind of event does not occur.
    """
    del seed
    path = folder / "events.parquet" if folder.is_dir() else folder
    if not path.exists():
        raise UserError(f"{path}: no such file; a log of views, carts and purchases is expected")
    events = _read(path)
    view = events["view"]
    before, ever = (
        {name: _count(view, events[name], (0, 1), ever=ever) > 0 for name in ("cart", "buy")}
        for ever in (False, True)
    )
    kept = ~before["cart"] & ~before["buy"]
    columns = {
        "user": pa.array(view[kept, 0]).cast(pa.string()),
        "item": pa.array(view[kept, 1]).cast(pa.string()),
        "hour": pa.array(hour_of_day(view[kept, 2])).cast(pa.string()),
        "weekday": pa.array(day_of_week(view[kept, 2])).cast(pa.string()),
        "timestamp": pa.array(view[kept, 2]),
        **{name: pa.array(values[kept]) for name, values in _counts(view, events).items()},
        "taken": pa.array((ever["cart"] | ever["buy"])[kept].astype(np.int8)),
        "bought": pa.array(ever["buy"][kept].astype(np.int8)),
    }
    return {"train": pa.table(columns)}


def _read(path: Path) -> dict[str, np.ndarray]:
    """Returns user, item, time int64 [N, 3] of each kind of event."""
    found = pq.read_schema(path).names
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; it has {found}")
    table = pq.read_table(path, columns=list(COLUMNS))
    behaviour = np.array(table.column("behavior").cast(pa.string()).to_pylist())
    numbers = ("user_id", "item_id", "timestamp")
    rows = np.stack([table.column(name).cast(pa.int64()).to_numpy() for name in numbers], axis=1)
    events = {name: rows[np.isin(behaviour, words)] for name, words in ACTIONS.items()}
    for name, of_kind in events.items():
        if not len(of_kind):
            raise UserError(f"{path}: no {name} (behavior {', '.join(ACTIONS[name])})")
    return events


def _counts(view: np.ndarray, events: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        f"{whose}_{name}s": _count(view, events[name], (place,))
        for place, whose in enumerate(("user", "item"))
        for name in ("view", "cart", "buy")
    }


def _count(
    view: np.ndarray, other: np.ndarray, same: tuple[int, ...], *, ever: bool = False
) -> np.ndarray:
    """Counts for each view the events of the same user, item or pair before it, int64 [N].

    Args:
        view: int64 [N, 3].
        other: int64 [M, 3].
        same: columns that must agree.
        ever: count those after it too.
    """
    both = np.concatenate([view, other])
    owner = np.unique(both[:, list(same)], axis=0, return_inverse=True)[1].reshape(-1)
    times = np.unique(both[:, 2], return_inverse=True)[1].reshape(-1)
    span = times.max() + 2
    keys = np.sort(owner[len(view) :] * span + times[len(view) :])
    first = owner[: len(view)] * span
    last = first + (span - 1 if ever else times[: len(view)])
    return np.searchsorted(keys, last) - np.searchsorted(keys, first)
