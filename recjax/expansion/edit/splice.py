"""Strategy `splice`: the head of one real user joined with the tail of another where they meet.

They meet at an item that both have, or at two items of one category, so that the draw crosses over
to another taste: the head ends with its item, the tail is what the other user did behind theirs.
It keeps its gaps; it may lie after the end of the training part, where it is no one's real future.

Reference:
    Holland (1975), "Adaptation in natural and artificial systems" (one-point crossover).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import Editor, UserEdits, edit_recent
from recjax.expansion.records import Record, RecordSource, iterate, make_record
from recjax.expansion.strategy import ExpansionData


class Splice(Editor):
    """Draws joined users; `user` is that of the head, whose history the draw shares."""

    name = "splice"

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Lists where users can be entered; returns those that meet another one."""
        crossings = find_crossings(data, get_settings(data, self.name).splice_by)

        def can_change(record: Record) -> bool:
            return any(True for _ in crossings.iterate_joined(record, 0.0))

        def change(record: Record, uniforms: np.ndarray) -> Record:
            return next(crossings.iterate_joined(record, float(uniforms[0])))

        return edit_recent(data, can_change, change, num_uniforms=1)


@dataclass(frozen=True)
class Crossings:
    """Where the real users can be entered: at events that others follow, by what stands there.

    Attributes:
        data: the real users and what holds for draws.
        key_of_item: int64 [V], what two users must share; 0 = nothing.
        starts: int64 [keys + 1], where the entries of each key begin.
        users: int32 [E], places in the source.
        events: int32 [E], places in the user's sequence.
    """

    data: ExpansionData
    key_of_item: np.ndarray
    starts: np.ndarray
    users: np.ndarray
    events: np.ndarray

    def iterate_joined(self, record: Record, start_share: float) -> Iterator[Record]:
        """Yields the record joined with each other user it meets, all in turn from some one on.

        Args:
            record: the user whose head is taken.
            start_share: in [0, 1), where to begin among all meetings.
        """
        keys = self.key_of_item[record["items"]]
        sizes = np.where(keys > 0, self.starts[keys + 1] - self.starts[keys], 0)
        sizes[0] = 0  # a head of one event would leave the other user alone
        ends = np.cumsum(sizes)
        total = int(ends[-1])
        first = int(start_share * total)
        for number in range(first, first + total):
            place = int(np.searchsorted(ends, number % total, side="right"))
            entry = self.starts[keys[place]] + number % total - (ends[place] - sizes[place])
            other = self.data.source[int(self.users[entry])]
            joined = self._join(record, place, other, int(self.events[entry]))
            if is_crossed(joined, record, other):
                yield joined

    def _join(self, head: Record, place: int, tail: Record, event: int) -> Record:
        """Returns events ..place of one and event + 1.. of the other, neither crowded out."""
        begin = max(0, place + 1 - self.data.max_len // 2)
        before = slice(begin, place + 1)
        after = slice(event + 1, event + 1 + self.data.max_len - (place + 1 - begin))
        delay = head["times"][place] - tail["times"][event]
        return make_record(
            np.concatenate([head["items"][before], tail["items"][after]]),
            np.concatenate([head["actions"][before], tail["actions"][after]]),
            np.concatenate([head["times"][before], tail["times"][after] + delay]),
            session_gap_seconds=self.data.session_gap_seconds,
            user=head["user"],
        )


def is_crossed(joined: Record, head: Record, tail: Record) -> bool:
    """Returns whether a joined user is of two users and has other items than either."""
    return head["user"] != tail["user"] and not any(
        np.array_equal(joined["items"], parent["items"]) for parent in (head, tail)
    )


def find_crossings(data: ExpansionData, by: str) -> Crossings:
    """Returns where users can be entered, in two passes; 8 bytes an event, and more meanwhile.

    Args:
        data: the real users, and the categories of items.
        by: what two users must share, "item" or "category".

    Raises:
        ValueError: if users are to meet by category, and none is known.
    """
    lengths = np.array([len(record["items"]) for record in iterate(data.source)], np.int64)
    items = _join_items(data.source)
    key_of_item = _choose_keys(data, by, int(items.max(initial=0)) + 1)
    users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    ends = np.cumsum(lengths)
    events = np.arange(len(items)) - np.repeat(ends - lengths, lengths)
    followed = np.flatnonzero(events + 1 < np.repeat(lengths, lengths))
    keys = key_of_item[items[followed]]
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], np.arange(int(key_of_item.max(initial=0)) + 2))
    entries = followed[order]
    return Crossings(data, key_of_item, starts, users[entries], events[entries].astype(np.int32))


def _join_items(source: RecordSource) -> np.ndarray:
    parts = [np.asarray(record["items"], np.int32) for record in iterate(source)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _choose_keys(data: ExpansionData, by: str, num_ids: int) -> np.ndarray:
    """Returns int64 [V], what two users must share to meet; 0 = nothing."""
    if by == "item":
        return np.arange(num_ids)
    if data.item_category is None or not data.item_category.any():
        raise ValueError(
            "edits.splice_by = 'category' needs item categories, and the catalogue has none; "
            "'item' does without"
        )
    return np.asarray(data.item_category, np.int64)
