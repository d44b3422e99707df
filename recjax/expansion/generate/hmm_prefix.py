"""Strategy `hmm_prefix`: short real users with a plausible past put before their history.

A record ends with the real history, untouched. Its `user` is the real one, so that the gate knows
whose history it shares. New events may lie before the log begins: many users are short because it
did not look further back.

Reference:
    Liu et al. (2021), "Augmenting sequential recommendation with pseudo-prior items via reversely
    pre-training transformer".
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax.expansion.generate.filling import fill_users
from recjax.expansion.generate.short_users import ShortUsers, find_short_users
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData


class HmmPrefix:
    """Draws pasts of short users, every user in turn."""

    name = "hmm_prefix"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> ShortUsers:
        """Returns who is short, after one pass over the users."""
        return find_short_users(self.name, data, 1, conditional=True)

    def draw(self, key: jax.Array, state: ShortUsers, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users with a past, none where nobody is short; see `Strategy.draw`."""
        if not len(state.users):
            return []
        originals = state.pick(jax.random.fold_in(key, 0), first_row, n)
        lengths = state.draw_lengths(jax.random.fold_in(key, 1), originals, first_row)
        places = [
            np.arange(length - len(original["items"]), length)
            for original, length in zip(originals, lengths, strict=True)
        ]
        return fill_users(jax.random.fold_in(key, 2), state, originals, places, first_row)
