"""Real users in turn, each changed: what all strategies of this folder share.

A strategy says which users it can change and how; users that it would leave as they are are not
eligible, so that no draw is a plain copy. Not here: the changes themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax.expansion.records import Record, slice_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

# change(record, uniforms): the changed user; the record's arrays are the change's own
ChangeFn = Callable[[Record, np.ndarray], Record]


@dataclass(frozen=True)
class UserEdits:
    """Who can be changed, and how.

    Attributes:
        read: returns the record of a place in the source.
        users: int32 [N], places of those that can be changed.
        change: changes one of them.
        num_uniforms: numbers that a change is given.
    """

    read: Callable[[int], Record]
    users: np.ndarray
    change: ChangeFn
    num_uniforms: int


class Editor:
    """The half of a strategy that all edits have in common."""

    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("edits",)

    def draw(self, key: jax.Array, state: UserEdits, n: int, first_row: int) -> Sequence[Record]:
        """Returns n changed users, every eligible one in turn, none where there is none."""
        if not len(state.users):
            return []
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, state.num_uniforms)
        return [
            state.change(state.read(int(user)), numbers)
            for user, numbers in zip(chosen, uniforms, strict=True)
        ]


def edit_recent(
    data: ExpansionData,
    can_change: Callable[[Record], bool],
    change: ChangeFn,
    num_uniforms: int,
) -> UserEdits:
    """Returns the edits of users by their last `max_len` events, after one pass over them.

    Args:
        data: the real users.
        can_change: whether the change would leave a trace.
        change: given a record with arrays of its own.
        num_uniforms: numbers that a change is given.
    """

    def read(user: int) -> Record:
        return take_recent(data.source[user], data.max_len)

    users = [user for user in range(len(data.source)) if can_change(read(user))]
    return UserEdits(read, np.array(users, np.int32), change, num_uniforms)


def take_recent(record: Record, max_len: int) -> Record:
    """Returns the last events of a record, at most `max_len`, in arrays of its own."""
    length = len(record["items"])
    return slice_record(record, max(0, length - max_len), length)


def count_share(share: float, length: int, least: int, most: int) -> int:
    """Returns that share of `length` events, rounded, within least..most.

    Example:
        >>> count_share(0.3, 10, 1, 9), count_share(0.3, 1, 1, 1)
        (3, 1)
    """
    return min(max(round(share * length), least), most)


def choose_places(uniforms: np.ndarray, number: int) -> np.ndarray:
    """Returns int64 [number], rising: the places of the smallest of the numbers [L]."""
    return np.sort(np.argsort(uniforms, kind="stable")[:number])
