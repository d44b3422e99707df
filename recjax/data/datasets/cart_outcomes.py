"""What came of carts: bought within days, or abandoned; one row an item put into a cart.

Only a pair's first cart counts, and only if the pair was not bought before. Carts whose days are
not over at the end of the log are left out: nobody knows yet. Counts are of what happened before
the cart. Called by `recjax.data.row_tables`, which splits the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data.datasets.event_counts import (
    count_before,
    counts_of_kinds,
    describe_moments,
    read_kinds,
)
from recjax.data.transforms import SECONDS_PER_DAY
from recjax.errors import UserError


def read_cart_outcomes(path: Path, horizon_days: int) -> dict[str, pa.Table]:
    """Returns all rows as the part train.

    Columns: user, item, hour, weekday, timestamp, six counts as of `view_outcomes`, pair_views
    (views of this pair before), bought.

    Args:
        path: as of `event_counts.read_kinds`.
        horizon_days: days in which a purchase must follow.

    Raises:
        UserError: if the file or a column is missing, a kind of event does not occur, or no cart
            has its days over.
    """
    events = read_kinds(path)
    cart, buy = events["cart"], events["buy"]
    last, horizon = (
        max(rows[:, 2].max() for rows in events.values()),
        horizon_days * SECONDS_PER_DAY,
    )
    bought_before = count_before(cart, buy, (0, 1))
    first = count_before(cart, cart, (0, 1)) == 0
    kept = first & (bought_before == 0) & (cart[:, 2] + horizon <= last)
    if not kept.any():
        raise UserError(
            f"{path}: no cart has {horizon_days} days after it; "
            "lower config.data.table.horizon_days"
        )
    moments = cart[kept]
    columns = {
        **describe_moments(moments),
        **counts_of_kinds(moments, events),
        "pair_views": count_before(moments, events["view"], (0, 1)),
        "bought": (count_before(moments, buy, (0, 1), later=horizon + 1) > 0).astype(np.int8),
    }
    return {"train": pa.table(columns)}
