"""Strategy `true_process`: new users of the true process, the ceiling of what expansion can give.

Only the simulated shop has one; the stage hands in a function that draws from it.
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData, FreshUsersFn


class TrueProcess:
    """Draws users of the process that made the log."""

    name = "true_process"
    judged_by: tuple[str, ...] = ()  # as good as real: a filter could only lower the ceiling
    needs: tuple[str, ...] = ("fresh_users",)

    def fit(self, data: ExpansionData, seed: int) -> FreshUsersFn:
        """Returns the function that draws."""
        if data.fresh_users is None:
            raise ValueError(
                f"{self.name} needs a true process; only data.source 'simulated_shop' has one"
            )
        return data.fresh_users

    def draw(self, key: jax.Array, state: FreshUsersFn, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        words = np.asarray(jax.random.key_data(key)).ravel()
        seed = int(words[0]) * 2**31 + int(words[-1]) % 2**31
        return state(seed, first_row, n)
