"""Strategy `hmm_tail`: whole users bound to contain a rare item, every rare item in turn.

Which items are rare is the gate's word (`config.expansion.gate.rare_item_share`). The rest of such
a user is what the HMM expects around the item, see `recjax.hmm.sample_bound`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.generate.hmm_records import make_users, require_generator
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData, pick_in_turn


@dataclass(frozen=True)
class TailState:
    """What draws need.

    Attributes:
        generator: the fitted HMM.
        rare: int64 [N], indices of the rare items among the generator's.
        session_gap_seconds: a longer gap opens a new session.
    """

    generator: GeneratorState
    rare: np.ndarray
    session_gap_seconds: int


class HmmTail:
    """Draws users around rare items."""

    name = "hmm_tail"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator", "rare_items")

    def fit(self, data: ExpansionData, seed: int) -> TailState:
        """Returns the rare items that occur in training; nothing is fitted anew."""
        generator = require_generator(self.name, data, conditional=True)
        if data.rare_items is None:
            raise ValueError(f"{self.name} needs data.rare_items, what the gate holds to be rare")
        rare = np.flatnonzero(data.rare_items[generator.item_ids])
        return TailState(generator, rare, data.session_gap_seconds)

    def draw(self, key: jax.Array, state: TailState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users, none where nothing is rare; see `Strategy.draw`."""
        if not len(state.rare):
            return []
        rows = np.arange(first_row, first_row + n)
        config = state.generator.config
        events, _ = hmm.sample_bound(
            jax.random.fold_in(key, 1),
            state.generator.tables,
            pick_in_turn(jax.random.fold_in(key, 0), rows, state.rare),
            max_len=config.max_len,
            first_row=first_row,
            no_repeats=config.no_repeats,
        )
        clock_key = jax.random.fold_in(key, 2)
        return make_users(clock_key, state.generator, events, first_row, state.session_gap_seconds)
