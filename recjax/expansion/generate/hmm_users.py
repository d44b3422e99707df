"""Strategy `hmm_users`: whole new users drawn from the fitted HMM.

Items, actions, gap bins and lengths come from the HMM, seconds and starts from the clock.
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.records import Record, make_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms


class HmmUsers:
    """Draws whole users."""

    name = "hmm_users"
    gated = True
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> tuple[GeneratorState, int]:
        """Returns the generator of the seed and the session gap; nothing is fitted anew."""
        if data.generator is None:
            raise ValueError(f"{self.name} needs data.generator, the fitted HMM")
        return data.generator, data.session_gap_seconds

    def draw(
        self, key: jax.Array, state: tuple[GeneratorState, int], n: int, first_row: int
    ) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        generator, session_gap = state
        config = generator.config
        events, _ = hmm.sample_users(
            jax.random.fold_in(key, 0),
            generator.tables,
            n,
            first_row=first_row,
            max_len=config.max_len,
            no_repeats=config.no_repeats,
        )
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, config.max_len)
        items = generator.item_ids[np.asarray(events.items)]
        actions, lengths = np.asarray(events.actions), np.asarray(events.lengths)
        times = generator.clock.draw_times(np.asarray(events.gaps), lengths, uniforms)
        return [
            make_record(
                items[row, :length],
                actions[row, :length],
                times[row, :length],
                session_gap_seconds=session_gap,
            )
            for row, length in enumerate(lengths)
        ]
