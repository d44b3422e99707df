"""Strategy `hmm_users`: whole new users drawn from the fitted HMM.

Items, actions, gap bins and lengths come from the HMM, seconds and starts from the clock. Baskets
too: events of one time are gap bin 1, which a state draws as often as its real users have them.
"""

from collections.abc import Sequence

import jax

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.generate.hmm_records import make_users, require_generator
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData


class HmmUsers:
    """Draws whole users."""

    name = "hmm_users"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> tuple[GeneratorState, int]:
        """Returns the generator of the seed and the session gap; nothing is fitted anew."""
        return require_generator(self.name, data), data.session_gap_seconds

    def draw(
        self, key: jax.Array, state: tuple[GeneratorState, int], n: int, first_row: int
    ) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        generator, session_gap_seconds = state
        events, _ = hmm.sample_users(
            jax.random.fold_in(key, 0),
            generator.tables,
            n,
            first_row=first_row,
            max_len=generator.config.max_len,
            no_repeats=generator.config.no_repeats,
        )
        clock_key = jax.random.fold_in(key, 1)
        return make_users(clock_key, generator, events, first_row, session_gap_seconds)
