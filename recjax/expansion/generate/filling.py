"""Events invented between or before those of real users, drawn by the HMM given all that is real.

Called by `hmm_prefix` and `hmm_fill`, which say where the real events stand among the new ones.
"""

import itertools
from collections.abc import Sequence

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.short_users import ShortUsers
from recjax.expansion.records import Record, make_record
from recjax.expansion.strategy import draw_uniforms


def fill_users(
    key: jax.Array,
    short: ShortUsers,
    originals: Sequence[Record],
    places: Sequence[np.ndarray],
    first_row: int,
) -> list[Record]:
    """Returns each user with new events at all places that his own do not take.

    Args:
        key: PRNG key; row b depends on (key, first_row + b) alone.
        short: generator and source.
        originals: B real users.
        places: int64 [L] of each, rising, where his L events stand in the new record; the last one
            ends it.
        first_row: number of the first row.
    """
    generator, n = short.generator, len(originals)
    events, missing = _spread(short, originals, places)
    after_new = np.pad(missing, ((0, 0), (1, 0)))[:, :-1] & ~missing
    drawn = hmm.sample_fills(
        jax.random.fold_in(key, 0),
        generator.tables,
        events,
        missing,
        missing_gaps=after_new,
        first_row=first_row,
    )
    drawn = jax.tree.map(np.asarray, drawn)
    uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, *missing.shape)
    seconds = generator.clock.draw_gaps(drawn.gaps, uniforms)
    return [_join(short, originals[row], places[row], drawn, seconds[row], row) for row in range(n)]


def _spread(
    short: ShortUsers, originals: Sequence[Record], places: Sequence[np.ndarray]
) -> tuple[hmm.Events, np.ndarray]:
    """Returns the real events at their places in [B, T], and bool [B, T], which are to be drawn."""
    shape = (len(originals), short.generator.config.max_len)
    real = short.generator.make_events(originals, shape[0], short.most)
    rows = np.repeat(np.arange(shape[0]), real.lengths)
    columns = np.concatenate([np.arange(length) for length in real.lengths])
    targets = np.concatenate(places)

    def spread(grid: np.ndarray) -> np.ndarray:
        wide = np.zeros(shape, grid.dtype)
        wide[rows, targets] = grid[rows, columns]
        return wide

    lengths = np.array([place[-1] + 1 for place in places], np.int32)
    missing = np.arange(shape[1]) < lengths[:, None]
    missing[rows, targets] = False
    events = hmm.Events(spread(real.items), spread(real.actions), spread(real.gaps), lengths)
    return events, missing


def _join(
    short: ShortUsers,
    original: Record,
    places: np.ndarray,
    drawn: hmm.Events,
    seconds: np.ndarray,
    row: int,
) -> Record:
    """Returns the real record with the drawn events of a row that find room around its own."""
    length = places[-1] + 1
    times, has_room = _place_times(original["times"], places, seconds[:length])
    fields = {
        "items": short.generator.item_ids[drawn.items[row, :length]],
        "actions": drawn.actions[row, :length],
        "times": times,
    }
    is_new = np.ones(length, bool)
    is_new[places] = False
    fields, is_new = {name: part[has_room] for name, part in fields.items()}, is_new[has_room]
    if short.generator.config.no_repeats:
        kept = ~is_new | _is_novel(fields["items"], is_new)
        fields = {name: part[kept] for name, part in fields.items()}
    return make_record(
        **fields, session_gap_seconds=short.session_gap_seconds, user=original["user"]
    )


def _place_times(
    real: np.ndarray, places: np.ndarray, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 [L], the real times and new ones around them, and bool [L], who finds room.

    New events lie as far from the one before as their gaps say, those before the first real one as
    far from the one after. Between two real events is room for those that come before the second:
    squeezed together, the others would have gaps that no real user has. Where none finds room at
    all, the first one in the longest wait does, in proportion to its gaps.
    """
    times = np.zeros(len(seconds), np.int64)
    first = places[0]
    times[:first] = real[0] - np.cumsum(seconds[first:0:-1])[::-1]
    times[places] = real
    has_room = np.zeros(len(seconds), bool)
    has_room[:first] = has_room[places] = True
    waits = [(left, right) for left, right in itertools.pairwise(places) if right - left > 1]
    for left, right in waits:
        new = slice(left + 1, right)
        times[new] = times[left] + np.cumsum(seconds[new])
        has_room[new] = times[new] <= times[right]
    if waits and has_room.sum() == len(places):
        left, right = max(waits, key=lambda wait: times[wait[1]] - times[wait[0]])
        before, after = seconds[left + 1] + 1, seconds[right] + 1  # gaps may all be 0
        times[left + 1] = times[left] + (times[right] - times[left]) * before // (before + after)
        has_room[left + 1] = True
    return times, has_room


def _is_novel(items: np.ndarray, is_new: np.ndarray) -> np.ndarray:
    """Returns bool [L]: the first new event of an item that the user does not have himself."""
    novel = np.zeros(len(items), bool)
    places = np.flatnonzero(is_new & ~np.isin(items, items[~is_new]))
    novel[places[np.unique(items[places], return_index=True)[1]]] = True
    return novel
