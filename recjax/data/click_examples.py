"""Click examples: an item shown (or drawn) to a user with a history, and whether it was taken.

With impressions, each shown item is an example with the log's label and propensity. Without, every
target event is a positive and uniform items that the user did not touch in training are negatives.
Every choice is a hash of (seed, user, place in the user's log), so neither the block size nor other
users change it. Called by `examples.py` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recjax.data.records import Record
from recjax.data.user_blocks import UserBlock, iter_user_blocks
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.errors import UserError

NUM_PARTS = 3
MAX_REDRAWS = 16  # tries to find an item the user did not touch; then the negative is left out
IMPRESSION_COLUMNS = ("item", "timestamp", "part", "position", "label", "propensity")

# A block of events (None after the last one) -> (part, record) of its users.
ClickMaker = Callable[[UserBlock | None], Iterator[tuple[int, Record]]]


def hash_uniform(seed: int, *keys: np.ndarray | int) -> np.ndarray:
    """Returns uint64 hashes of (seed, keys), uniform over 64 bits; keys broadcast together.

    Reference:
        Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators" (SplitMix64).
    """
    state = np.full(np.broadcast_shapes(*(np.shape(k) for k in keys)), seed, np.int64)
    state = state.astype(np.uint64)
    for key in keys:
        state = _mix(state + _mix(np.asarray(key, np.int64).astype(np.uint64)))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # wrapping is the point
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class ClickThinning:
    """Keeps an even share of the click targets of each part.

    Attributes:
        shares: float64 [3], train, valid, test; 1 = all.
        seed: of the choice.
    """

    shares: np.ndarray
    seed: int

    @classmethod
    def of_counts(cls, counts: np.ndarray, limit: int, seed: int) -> ClickThinning:
        """Returns the shares that leave about `limit` of counts [3] records; 0 = no limit."""
        shares = np.ones(NUM_PARTS)
        if limit:
            shares = np.minimum(1.0, limit / np.maximum(counts, 1))
        return cls(shares, seed)

    def keep(self, users: np.ndarray, places: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Returns bool [N]: whether the row at a place of a user's log is kept."""
        draw = hash_uniform(self.seed, 1, users, places) >> np.uint64(11)
        return draw * 2.0**-53 < self.shares[parts]


def count_targets(path: str | Path, is_target: np.ndarray | None) -> np.ndarray:
    """Returns int64 [3], rows per part; with is_target [A] only those of target actions."""
    if not Path(path).exists():
        raise UserError(f"{path} is missing: run the prepare stage first")
    counts = np.zeros(NUM_PARTS, np.int64)
    columns = ["part"] if is_target is None else ["part", "action"]
    with pq.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path}: no column {missing[0]!r}; it has {file.schema_arrow.names}")
        for batch in file.iter_batches(columns=columns):
            part = batch.column("part").to_numpy()
            if is_target is not None:
                part = part[is_target[batch.column("action").to_numpy()]]
            counts += np.bincount(part, minlength=NUM_PARTS)
    return counts


def clicks_of_events(
    thinning: ClickThinning,
    *,
    is_target: np.ndarray,
    num_negatives: int,
    num_items: int,
    max_history: int,
) -> ClickMaker:
    """Returns a function block -> (part, record): positives, each followed by its negatives."""

    def make(block: UserBlock | None) -> Iterator[tuple[int, Record]]:
        if block is None:
            return
        item, part = block.columns["item"], block.columns["part"]
        row_user = block.row_user
        place = np.arange(block.num_rows) - block.offsets[:-1][row_user]
        chosen = is_target[block.columns["action"]] & (item >= NUM_SPECIALS)
        chosen &= thinning.keep(block.users[row_user], place, part)
        rows = np.flatnonzero(chosen)
        drawn = _draw_negatives(block, rows, row_user, place, num_negatives, num_items, thinning)
        histories = _Histories(block, max_history)
        for row, negatives in zip(rows.tolist(), drawn, strict=True):
            history = histories.before_row(row_user[row], row, part[row])
            time = block.columns["timestamp"][row]
            yield int(part[row]), _click(history, item[row], time, label=1.0)
            for negative in negatives:
                yield int(part[row]), _click(history, negative, time, label=0.0)

    return make


def _draw_negatives(
    block: UserBlock,
    rows: np.ndarray,
    row_user: np.ndarray,
    place: np.ndarray,
    num_negatives: int,
    num_items: int,
    thinning: ClickThinning,
) -> list[np.ndarray]:
    """Returns for each row up to C distinct items outside the user's training part."""
    item, users = block.columns["item"].astype(np.int64), row_user[rows]
    width = NUM_SPECIALS + num_items
    train = block.columns["part"] == 0
    touched = np.unique(row_user[train] * width + item[train])  # sorted (user, item) pairs
    drawn = np.zeros((len(rows), num_negatives), np.int64)
    for column in range(num_negatives):
        open_rows = np.arange(len(rows))
        for attempt in range(MAX_REDRAWS):
            keys = (block.users[users[open_rows]], place[rows[open_rows]], column, attempt)
            bits = hash_uniform(thinning.seed, 2, *keys)
            candidate = NUM_SPECIALS + (bits % np.uint64(num_items)).astype(np.int64)
            bad = _contains(touched, users[open_rows] * width + candidate)
            bad |= candidate == item[rows[open_rows]]
            bad |= np.any(drawn[open_rows, :column] == candidate[:, None], axis=1)
            drawn[open_rows[~bad], column] = candidate[~bad]
            open_rows = open_rows[bad]
            if not len(open_rows):
                break
    return [row[row > 0] for row in drawn]


def _contains(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not len(sorted_values):
        return np.zeros(len(values), bool)
    found = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return sorted_values[found] == values


def clicks_of_impressions(
    path: str | Path, thinning: ClickThinning, max_history: int
) -> ClickMaker:
    """Returns a function block -> (part, record) that walks the impressions beside the events.

    The history of an impression is the user's events strictly before it, none of a later part.
    Users who were shown something but have no event get examples with an empty history; a last call
    with None hands out those behind the last user with events.
    """
    shown_users = _ShownUsers(path)

    def make(block: UserBlock | None) -> Iterator[tuple[int, Record]]:
        histories = None if block is None else _Histories(block, max_history)
        index = {} if block is None else {int(user): i for i, user in enumerate(block.users)}
        for user, shown in shown_users.up_to(None if block is None else int(block.users[-1])):
            part = shown["part"]
            place = np.arange(len(part))
            keep = thinning.keep(np.full(len(part), user), place, part)
            for row in np.flatnonzero(keep):
                time = shown["timestamp"][row]
                if histories is None or user not in index:
                    history = _no_history(user)
                else:
                    history = histories.before_time(index[user], time, part[row])
                yield (
                    int(part[row]),
                    _click(
                        history,
                        shown["item"][row],
                        time,
                        label=shown["label"][row],
                        position=shown["position"][row],
                        propensity=shown["propensity"][row],
                    ),
                )

    return make


class _ShownUsers:
    """The users of impressions.parquet in order, handed out up to a user number."""

    def __init__(self, path: str | Path) -> None:
        self._users = self._walk(path)
        self._next: tuple[int, dict[str, np.ndarray]] | None = next(self._users, None)

    @staticmethod
    def _walk(path: str | Path) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for block in iter_user_blocks(path, IMPRESSION_COLUMNS):
            columns = dict(block.columns)
            columns["position"] = _filled(columns["position"], 0).astype(np.int32)
            columns["label"] = _filled(columns["label"], 0).astype(np.float32)
            columns["propensity"] = _filled(columns["propensity"], 1).astype(np.float32)
            for i, user in enumerate(block.users):
                rows = slice(block.offsets[i], block.offsets[i + 1])
                yield int(user), {name: values[rows] for name, values in columns.items()}

    def up_to(self, last_user: int | None) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yields the users up to a number that were not yet yielded; None = all that are left."""
        while self._next is not None and (last_user is None or self._next[0] <= last_user):
            yield self._next
            self._next = next(self._users, None)


def _filled(values: np.ndarray, default: float) -> np.ndarray:
    values = values.astype(np.float64)  # nulls read as NaN
    return np.where(np.isnan(values), default, values)


class _Histories:
    """The user's events before a row or a time, last `max_history`, none of a later part."""

    def __init__(self, block: UserBlock, max_history: int) -> None:
        self._block, self._max_history = block, max_history
        part = block.columns["part"]
        zero = np.zeros(1, np.int64)
        self._later = [np.concatenate([zero, np.cumsum(part > p)]) for p in range(NUM_PARTS)]

    def before_row(self, user_index: int, row: int, part: int) -> Record:
        """Returns the history of the event at a row of the block."""
        columns, start = self._block.columns, self._block.offsets[user_index]
        rows: slice | np.ndarray = slice(max(start, row - self._max_history), row)
        if self._later[part][row] > self._later[part][start]:
            before = np.arange(start, row)
            rows = before[columns["part"][before] <= part][-self._max_history :]
        return {
            "user": self._block.users[user_index],
            "items": columns["item"][rows],
            "actions": columns["action"][rows],
            "times": columns["timestamp"][rows],
            "sessions": columns["session"][rows],
            "source": 0,
        }

    def before_time(self, user_index: int, time: int, part: int) -> Record:
        """Returns the history strictly before a time."""
        start, stop = self._block.offsets[user_index : user_index + 2]
        times = self._block.columns["timestamp"][start:stop]
        return self.before_row(user_index, start + int(np.searchsorted(times, time)), part)


def _no_history(user: int) -> Record:
    empty = np.zeros(0, np.int64)
    events = {"items": empty, "actions": empty, "times": empty, "sessions": empty}
    return {"user": user, **events, "source": 0}


def _click(
    history: Record,
    item: int,
    time: int,
    *,
    label: float,
    position: int = 0,
    propensity: float = 1.0,
) -> Record:
    return {
        **history,
        "item": item,
        "time": time,
        "position": position,
        "label": label,
        "propensity": propensity,
        "weight": 1.0,
    }
