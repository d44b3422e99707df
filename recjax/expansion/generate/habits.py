"""How long users stay, what they do and when: all that a generator of items alone does not say.

Lengths are those of real users. Actions follow one another as a first-order chain, and so do the
bins of gaps; seconds and starts come from the clock. Not here: items. Called by the generators that
draw items only (`markov_chain`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax.data.transforms import gaps_of_times
from recjax.expansion.generate.clock import Clock, fit_clock
from recjax.expansion.records import Record, RecordSource, lengths_of, make_record, pick_evenly
from recjax.expansion.strategy import draw_uniforms

_USERS = 20_000  # so many are looked at
_NUM_GAP_BINS = 32  # doubling from one second to 34 years


@dataclass(frozen=True)
class Outlines:
    """Users whose items are not drawn yet; cells beyond a length mean nothing.

    Attributes:
        lengths: int64 [B], at least 1.
        actions: int64 [B, T].
        times: int64 [B, T], seconds.
        session_gap_seconds: a longer gap opens a new session.
    """

    lengths: np.ndarray
    actions: np.ndarray
    times: np.ndarray
    session_gap_seconds: int

    def fill_in(self, items: np.ndarray) -> list[Record]:
        """Returns the users as records, given the ids int [B, T] of their items."""
        return [
            make_record(
                items[row, :length],
                self.actions[row, :length],
                self.times[row, :length],
                session_gap_seconds=self.session_gap_seconds,
            )
            for row, length in enumerate(self.lengths)
        ]


@dataclass(frozen=True)
class Habits:
    """Frequencies of the log, cumulated.

    Attributes:
        lengths: float64 [T + 1], share of users with at most so many events; longer ones count
            as T.
        actions: float64 [A + 1, A], actions by the one before; the last row is of first events.
        gaps: float64 [G, G], gap bins by the one before; row 0 is of second events.
        clock: real gap lengths and starts.
        session_gap_seconds: a longer gap opens a new session.
    """

    lengths: np.ndarray
    actions: np.ndarray
    gaps: np.ndarray
    clock: Clock
    session_gap_seconds: int

    @property
    def max_len(self) -> int:
        """T."""
        return len(self.lengths) - 1

    def draw(self, key: jax.Array, first_row: int, n: int) -> Outlines:
        """Returns the outlines of n users; row b depends on (key, first_row + b) alone."""
        numbers = draw_uniforms(key, first_row, n, 1 + 3 * self.max_len)
        lengths = np.searchsorted(self.lengths, numbers[:, 0], side="right")
        for_actions, for_gaps, for_times = np.split(numbers[:, 1:], 3, axis=1)
        actions = _walk(self.actions, len(self.actions) - 1, for_actions)
        gaps = np.pad(_walk(self.gaps, 0, for_gaps[:, 1:]), ((0, 0), (1, 0)))
        times = self.clock.draw_times(gaps, lengths, for_times)
        return Outlines(lengths, actions, times, self.session_gap_seconds)


def fit_habits(source: RecordSource, max_len: int, session_gap_seconds: int) -> Habits:
    """Returns the habits of the real users, or of a sample of 20,000 where there are more.

    Args:
        source: training records, at least one with an event.
        max_len: T, most events of a drawn user.
        session_gap_seconds: a longer gap opens a new session.
    """
    records = [record for record in pick_evenly(source, _USERS) if len(record["items"])]
    lengths = np.bincount(np.minimum(lengths_of(records), max_len), minlength=max_len + 1)
    gaps = [gaps_of_times(record["times"], _NUM_GAP_BINS) for record in records]
    num_actions = 1 + max(int(record["actions"].max()) for record in records)
    actions = [np.append(num_actions, record["actions"]) for record in records]
    return Habits(
        np.cumsum(lengths) / len(records),
        _cumulate(_count_pairs(actions, num_actions + 1)[:, :num_actions]),
        _cumulate(_count_pairs(gaps, _NUM_GAP_BINS)),
        fit_clock(records, _NUM_GAP_BINS),
        session_gap_seconds,
    )


def _count_pairs(sequences: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Returns float64 [S, S], how often a value follows another."""
    before = np.concatenate([sequence[:-1] for sequence in sequences]).astype(np.int64)
    after = np.concatenate([sequence[1:] for sequence in sequences])
    counts = np.bincount(before * size + after, minlength=size * size)
    return counts.reshape(size, size).astype(np.float64)


def _cumulate(counts: np.ndarray) -> np.ndarray:
    """Returns each row's cumulated shares; those of all, or equal ones, where it has no counts."""
    for stand_in in (counts.sum(0), np.ones(counts.shape[1])):
        counts = np.where(counts.sum(1, keepdims=True) > 0, counts, stand_in)
    return np.cumsum(counts, 1) / counts.sum(1, keepdims=True)


def _walk(table: np.ndarray, start: int, uniforms: np.ndarray) -> np.ndarray:
    """Returns int64 [B, T], a chain by cumulated shares [S, N] from a starting row on."""
    states = np.zeros(uniforms.shape, np.int64)
    before = np.full(len(uniforms), start)
    for step in range(uniforms.shape[1]):
        before = (uniforms[:, step, None] >= table[before]).sum(1)
        states[:, step] = before
    return states
