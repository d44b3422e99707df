"""Strategy `hmm_fill`: short real users with events filled into the gaps of their history.

All real events stay, in order and at their times. New ones fall into gaps in proportion to the time
that passed there, as events that went unseen at a constant rate would. The `user` of a record is
the real one, so that the gate knows whose history it shares.
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax.expansion.generate.filling import fill_users
from recjax.expansion.generate.short_users import ShortUsers, find_short_users
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData, draw_uniforms


class HmmFill:
    """Draws fills of short users who have a gap, every user in turn."""

    name = "hmm_fill"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> ShortUsers:
        """Returns who is short, after one pass over the users."""
        return find_short_users(self.name, data, 2, conditional=True)

    def draw(self, key: jax.Array, state: ShortUsers, n: int, first_row: int) -> Sequence[Record]:
        """Returns n filled users, none where nobody is short; see `Strategy.draw`."""
        if not len(state.users):
            return []
        originals = state.pick(jax.random.fold_in(key, 0), first_row, n)
        lengths = state.draw_lengths(jax.random.fold_in(key, 1), originals, first_row)
        max_len = state.generator.config.max_len
        uniforms = draw_uniforms(jax.random.fold_in(key, 2), first_row, n, max_len)
        places = [
            _make_room(original["times"], numbers[: length - len(original["items"])])
            for original, length, numbers in zip(originals, lengths, uniforms, strict=True)
        ]
        return fill_users(jax.random.fold_in(key, 3), state, originals, places, first_row)


def _make_room(times: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns int64 [L], where real events stand once each uniform has put a new one in a gap."""
    ends = np.cumsum(np.diff(times) + 1)  # one second more, so that no gap is without a chance
    gaps = np.searchsorted(ends, np.floor(uniforms * ends[-1]), side="right")
    return np.arange(len(times)) + np.searchsorted(np.sort(gaps), np.arange(len(times)))
