"""When things happen: sessions and the second of every event, before it is known what happens.

Here: session breaks, pauses between sessions, gaps within, all for a block at once. Not here: what
the events are (`process`). Called by `process` and `oracle`. Times do not depend on what users do,
so an event can be looked up by its time without simulating.
"""

import dataclasses

import numpy as np

from recjax.data.simulated_shop.config import DAY_SECONDS, START_TIME
from recjax.data.simulated_shop.population import COLUMN, People

MIN_PAUSE_SECONDS = 1900  # between sessions; more than the usual half hour that splits them
MAX_GAP_SECONDS = 1500  # within a session
_HOUR_WEIGHTS = np.array(
    [
        [1, 0, 0, 0, 1, 4, 9, 12, 10, 7, 5, 4, 4, 3, 3, 3, 3, 3, 4, 4, 3, 2, 2, 1],
        [1, 0, 0, 0, 0, 1, 2, 3, 5, 7, 8, 10, 12, 11, 8, 6, 5, 4, 4, 4, 3, 3, 2, 1],
        [3, 1, 0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 4, 3, 3, 3, 4, 5, 7, 10, 13, 13, 10, 6],
    ],
    float,
)
_WEEKDAY_WEIGHTS = np.array([0.9, 0.85, 0.85, 0.9, 1.0, 1.3, 1.2])


@dataclasses.dataclass(frozen=True)
class Clock:
    """Times of a block's event slots, user after user.

    Attributes:
        user: int64 [N], row of the user within the block.
        starts: bool [N], the slot opens a session.
        session: int64 [N], number of the session within its user.
        time: int64 [N] seconds, strictly increasing within a user.
    """

    user: np.ndarray
    starts: np.ndarray
    session: np.ndarray
    time: np.ndarray


def draw_clock(people: People, tape: np.ndarray) -> Clock:
    """Places all slots of a block in time. Users without slots (bots) are passed over."""
    user = np.repeat(np.arange(len(people.counts)), people.counts)
    first_slot = people.offsets[:-1][people.counts > 0]
    if not len(first_slot):
        return Clock(user, np.zeros(0, bool), user, user)
    starts = tape[:, COLUMN["session"]] < 1.0 / people.session_len[user]
    starts[first_slot] = True
    index = np.cumsum(starts) - 1  # of the session within the block
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(user)) - 1
    gaps = _within_session_gaps(tape[:, COLUMN["gap"]])
    gaps[first] = 0
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[first][index]
    begin = _session_starts(people, user[first], tape[first, COLUMN["pause"]], elapsed[last])
    first_of_user = np.zeros(len(people.counts), np.int64)
    first_of_user[user[first_slot]] = index[first_slot]
    return Clock(user, starts, index - first_of_user[user], begin[index] + elapsed)


def _within_session_gaps(uniforms: np.ndarray) -> np.ndarray:
    """Log-logistic seconds, median 27: most clicks follow fast, some after a long look."""
    seconds = 25.0 * (uniforms / (1.0 - uniforms)) ** 0.6
    return 2 + np.minimum(seconds, MAX_GAP_SECONDS - 2).astype(np.int64)


def _session_starts(
    people: People, user: np.ndarray, uniforms: np.ndarray, durations: np.ndarray
) -> np.ndarray:
    """Draws bursty session starts, int64 seconds, that never overlap.

    Args:
        people: the block.
        user: int64 [S], row of the user of each session, ascending.
        uniforms: float64 [S].
        durations: int64 [S] seconds.
    """
    pauses = np.clip((uniforms / (1.0 - uniforms)) ** 0.8, 1e-3, 200.0)
    pauses = (pauses * 1e6).astype(np.int64)  # whole numbers: sums do not depend on the block
    running = np.cumsum(pauses)
    first = np.searchsorted(user, np.arange(len(people.counts)))
    first = np.minimum(first, len(user) - 1)  # users without sessions are never looked up
    before = (running - pauses)[first]
    total = np.full(len(people.counts), 700_000)
    np.add.at(total, user, pauses)
    share = (running - before[user]) / total[user]
    days = people.arrival[user] + share * (people.leave - people.arrival)[user]
    days = _habits(days, people.hours[user], people.leave[user])
    raw = START_TIME + (days * DAY_SECONDS).astype(np.int64)
    raw = np.maximum(raw, people.valid_from[user])
    return _push_apart(raw, durations + MIN_PAUSE_SECONDS, user, first)


def _habits(days: np.ndarray, hours: np.ndarray, leave: np.ndarray) -> np.ndarray:
    """Bends uniform time towards weekends and the user's hours; order is kept."""
    week = np.floor(days / 7.0)
    running = np.concatenate([[0], np.cumsum(_WEEKDAY_WEIGHTS)]) / _WEEKDAY_WEIGHTS.sum()
    bent = week * 7.0 + np.interp(days - week * 7.0, running * 7.0, np.arange(8.0))
    days = np.where((week + 1) * 7.0 <= leave, bent, days)  # not past the last, broken week
    day = np.floor(days)
    clock = days - day
    result = clock.copy()
    for kind, weights in enumerate(_HOUR_WEIGHTS + 0.02):
        running = np.concatenate([[0], np.cumsum(weights)]) / weights.sum()
        mine = hours == kind
        result[mine] = np.interp(clock[mine], running, np.arange(25.0) / 24.0)
    return day + result


def _push_apart(
    raw: np.ndarray, lengths: np.ndarray, user: np.ndarray, first: np.ndarray
) -> np.ndarray:
    """Moves starts later until each comes `lengths` after the one before it, user by user.

    start_s = max over j <= s of (raw_j + lengths of j..s-1): a running maximum after the running
    sum of the lengths is taken off; a large step per user keeps the users apart.
    """
    running = np.cumsum(lengths) - lengths
    running -= running[first][user]
    step = user * (1 << 36)
    return np.maximum.accumulate(raw - running + step) - step + running
