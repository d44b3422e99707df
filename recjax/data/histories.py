"""Everything known of every user, as evaluation records without a target: what recommend reads.

Streams prepared/events.parquet; users without events come too, with an empty history. Evaluation
examples, which stop before their target, are made in `examples.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recjax.data.records import Record
from recjax.data.user_blocks import UserBlock, iter_user_blocks
from recjax.data.vocabulary import UNK

_COLUMNS = ("item", "action", "timestamp", "session")


def full_histories(
    events_path: str | Path, num_users: int, *, carries_item: np.ndarray, max_history: int
) -> Iterator[Record]:
    """Yields one record per user number 0 .. num_users - 1, in order.

    Args:
        events_path: prepared/events.parquet.
        num_users: U.
        carries_item: bool [A], actions with an item; other events are left out.
        max_history: last events kept in order; `seen` holds all distinct items.

    Yields:
        Records as next_item examples, target_item UNK.
    """
    following = 0
    for block in iter_user_blocks(events_path, _COLUMNS):
        block = block.keep(carries_item[block.columns["action"]])
        for index, user in enumerate(block.users):
            yield from (_record(number, None, slice(0)) for number in range(following, int(user)))
            rows = slice(int(block.offsets[index]), int(block.offsets[index + 1]))
            yield _record(int(user), block, rows, max_history)
            following = int(user) + 1
    yield from (_record(number, None, slice(0)) for number in range(following, num_users))


def _record(user: int, block: UserBlock | None, rows: slice, max_history: int = 0) -> Record:
    columns = {} if block is None else {n: block.columns[n][rows] for n in _COLUMNS}
    items = columns.get("item", np.zeros(0, np.int32))
    last = slice(max(0, len(items) - max_history), len(items))
    seen = np.unique(items)
    empty = np.zeros(0, np.int32)
    return {
        "user": user,
        "items": items[last],
        "actions": columns.get("action", empty)[last],
        "times": columns.get("timestamp", np.zeros(0, np.int64))[last],
        "sessions": columns.get("session", empty)[last],
        "seen": seen[seen > UNK],
        "target_item": UNK,
    }
