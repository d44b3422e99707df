"""Strategy `hmm_continue`: short real users, continued from the posterior over their hidden state.

A record is the real history, untouched, and new events behind it. Its `user` is the real one, so
that the gate knows whose history it shares. New events may lie after the end of the training part:
they are no one's real future, and most short users are short because the log ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.records import Record, RecordSource, make_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn


@dataclass(frozen=True)
class ContinueState:
    """What draws need.

    Attributes:
        generator: the fitted HMM.
        source: the real users.
        users: int32 [N], places of the short ones in the source.
        prefix_len: most events of a short user.
        max_new: most new events.
        session_gap_seconds: a longer gap opens a new session.
    """

    generator: GeneratorState
    source: RecordSource
    users: np.ndarray
    prefix_len: int
    max_new: int
    session_gap_seconds: int


class HmmContinue:
    """Draws continuations of short users, every user in turn."""

    name = "hmm_continue"
    gated = True
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> ContinueState:
        """Returns who is short, after one pass over the users."""
        if data.generator is None:
            raise ValueError(f"{self.name} needs data.generator, the fitted HMM")
        prefix_len, max_len = data.short_user_events, data.generator.config.max_len
        if not 1 <= prefix_len < max_len:
            raise ValueError(
                f"short_user_events is {prefix_len}; must be at least 1 and below max_len {max_len}"
            )
        lengths = (len(data.source[user]["items"]) for user in range(len(data.source)))
        users = [user for user, length in enumerate(lengths) if 0 < length <= prefix_len]
        return ContinueState(
            data.generator,
            data.source,
            np.array(users, np.int32),
            prefix_len,
            max_len - prefix_len,
            data.session_gap_seconds,
        )

    def draw(
        self, key: jax.Array, state: ContinueState, n: int, first_row: int
    ) -> Sequence[Record]:
        """Returns n continued users, none where nobody is short; see `Strategy.draw`."""
        if not len(state.users):
            return []
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        originals = [state.source[int(user)] for user in chosen]
        events = hmm.sample_continuations(
            jax.random.fold_in(key, 1),
            state.generator.tables,
            state.generator.make_events(originals, n, state.prefix_len),
            max_new=state.max_new,
            first_row=first_row,
            no_repeats=state.generator.config.no_repeats,
            leave_out=True,  # the generator's kernel was counted from these very users
        )
        uniforms = draw_uniforms(jax.random.fold_in(key, 2), first_row, n, state.max_new)
        joined = jax.tree.map(np.asarray, events)
        return [_append(state, originals[row], joined, uniforms[row], row) for row in range(n)]


def _append(
    state: ContinueState, original: Record, events: hmm.Events, uniforms: np.ndarray, row: int
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
