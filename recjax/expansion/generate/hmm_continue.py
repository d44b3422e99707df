"""Strategy `hmm_continue`: short real users, continued from the posterior over their hidden state.

A record is the real history, untouched, and new events behind it. Its `user` is the real one, so
that the gate knows whose history it shares. New events may lie after the end of the training part:
they are no one's real future, and most short users are short because the log ended.
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.short_users import ShortUsers, find_short_users
from recjax.expansion.records import Record, make_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms


class HmmContinue:
    """Draws continuations of short users, every user in turn."""

    name = "hmm_continue"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> ShortUsers:
        """Returns who is short, after one pass over the users."""
        return find_short_users(self.name, data, 1, conditional=False)

    def draw(self, key: jax.Array, state: ShortUsers, n: int, first_row: int) -> Sequence[Record]:
        """Returns n continued users, none where nobody is short; see `Strategy.draw`."""
        if not len(state.users):
            return []
        originals = state.pick(jax.random.fold_in(key, 0), first_row, n)
        config = state.generator.config
        max_new = config.max_len - state.most
        events = hmm.sample_continuations(
            jax.random.fold_in(key, 1),
            state.generator.tables,
            state.generator.make_events(originals, n, state.most),
            max_new=max_new,
            first_row=first_row,
            no_repeats=config.no_repeats,
            leave_out=True,  # the generator's kernel was counted from these very users
        )
        uniforms = draw_uniforms(jax.random.fold_in(key, 2), first_row, n, max_new)
        joined = jax.tree.map(np.asarray, events)
        return [_append(state, originals[row], joined, uniforms[row], row) for row in range(n)]


def _append(
    state: ShortUsers, original: Record, events: hmm.Events, uniforms: np.ndarray, row: int
) -> Record:
    """Returns the real record with what lies behind it in a row of `events`."""
    new = slice(len(original["items"]), int(events.lengths[row]))
    bins = events.gaps[row, new]
    seconds = np.cumsum(state.generator.clock.draw_gaps(bins, uniforms[: len(bins)]))
    return make_record(
        np.concatenate([original["items"], state.generator.item_ids[events.items[row, new]]]),
        np.concatenate([original["actions"], events.actions[row, new]]),
        np.concatenate([original["times"], original["times"][-1] + seconds]),
        session_gap_seconds=state.session_gap_seconds,
        user=original["user"],
    )
