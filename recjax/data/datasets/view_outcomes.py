"""What came of views: a log of views, carts and purchases as a table, one row a viewed pair.

`taken` says whether user u put item i into the cart, or bought it, after viewing it; `bought`
whether u bought it. Pairs taken before the view are left out. Counts are of what happened before
the view. Called by `recjax.data.row_tables`, which splits the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data.datasets.event_counts import (
    EVER,
    count_before,
    counts_of_kinds,
    describe_moments,
    read_kinds,
)


def read_view_outcomes(path: Path) -> dict[str, pa.Table]:
    """Returns all rows as the part train.

    Columns: user, item, hour, weekday, timestamp, six counts (user_views ... item_buys: events of
    the user, or of the item, before the view), taken, bought.

    Args:
        path: as of `event_counts.read_kinds`.

    Raises:
        UserError: if the file or a column is missing, or a kind of event does not occur.
    """
    events = read_kinds(path)
    view = events["view"]
    before, ever = (
        {
            name: count_before(view, events[name], (0, 1), later=later) > 0
            for name in ("cart", "buy")
        }
        for later in (0, EVER)
    )
    kept = ~before["cart"] & ~before["buy"]
    columns = {
        **describe_moments(view[kept]),
        **counts_of_kinds(view[kept], events),
        "taken": (ever["cart"] | ever["buy"])[kept].astype(np.int8),
        "bought": ever["buy"][kept].astype(np.int8),
    }
    return {"train": pa.table(columns)}
