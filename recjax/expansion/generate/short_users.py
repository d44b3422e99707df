"""Short real users, whom the HMM adds events to: who they are, whose turn it is, how far they grow.

Not here: what is added (`hmm_continue`, `hmm_prefix`, `hmm_fill`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.generate.hmm_records import require_generator
from recjax.expansion.records import Record, RecordSource, lengths_of
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn


@dataclass(frozen=True)
class ShortUsers:
    """What draws need.

    Attributes:
        generator: the fitted HMM.
        source: the real users.
        users: int32 [N], places of the short ones in the source.
        most: most events of a short user.
        users_up_to: int64 [T + 1], real users with at most so many events; longer ones count as T.
        session_gap_seconds: a longer gap opens a new session.
    """

    generator: GeneratorState
    source: RecordSource
    users: np.ndarray
    most: int
    users_up_to: np.ndarray
    session_gap_seconds: int

    def pick(self, key: jax.Array, first_row: int, n: int) -> list[Record]:
        """Returns the users of n rows, every one in turn."""
        rows = np.arange(first_row, first_row + n)
        return [self.source[int(user)] for user in pick_in_turn(key, rows, self.users)]

    def draw_lengths(
        self, key: jax.Array, originals: Sequence[Record], first_row: int
    ) -> np.ndarray:
        """Returns int64 [B], events that each user grows to: as many as some longer real user has.

        One event more where no real user is longer.
        """
        lengths = lengths_of(originals)
        uniforms = draw_uniforms(key, first_row, len(originals), 1)[:, 0]
        shorter, everybody = self.users_up_to[lengths], self.users_up_to[-1]
        rank = shorter + np.floor(uniforms * (everybody - shorter)).astype(np.int64)
        drawn = np.searchsorted(self.users_up_to, rank, side="right")
        return np.where(shorter < everybody, drawn, lengths + 1)


def find_short_users(
    name: str, data: ExpansionData, least: int, *, conditional: bool
) -> ShortUsers:
    """Returns the users with `least` to `short_user_events` events, after one pass over all.

    Args:
        name: of the strategy that asks, for messages.
        data: real users and the fitted generator.
        least: events of the shortest user that will do.
        conditional: whether fills, prefixes or the like will be drawn.

    Raises:
        ValueError: if there is no fitted HMM or it cannot serve, or the limit leaves no room.
    """
    generator = require_generator(name, data, conditional=conditional)
    most, max_len = data.short_user_events, generator.config.max_len
    if not least <= most < max_len:
        raise ValueError(
            f"short_user_events is {most}; {name} needs at least {least} and less than max_len "
            f"{max_len}"
        )
    number = len(data.source)
    lengths = np.fromiter((len(data.source[u]["items"]) for u in range(number)), np.int64, number)
    users = np.flatnonzero((lengths >= least) & (lengths <= most)).astype(np.int32)
    up_to = np.cumsum(np.bincount(np.minimum(lengths, max_len), minlength=max_len + 1))
    return ShortUsers(generator, data.source, users, most, up_to, data.session_gap_seconds)
