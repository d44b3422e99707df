"""Strategy `repeat`: real users once more, the placebo that says what extra steps alone give."""

from collections.abc import Sequence

import jax
import numpy as np

from recjax.expansion.records import SEQUENCE_FIELDS, Record, RecordSource
from recjax.expansion.strategy import ExpansionData, pick_in_turn


class Repeat:
    """Repeats real users, every one in turn."""

    name = "repeat"
    judged_by: tuple[str, ...] = ()  # a copy by design: the gate would take out all of it
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> RecordSource:
        """Returns the real users."""
        return data.source

    def draw(self, key: jax.Array, state: RecordSource, n: int, first_row: int) -> Sequence[Record]:
        """Returns n real users; see `Strategy.draw`."""
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(key, rows, np.arange(len(state)))
        originals = [state[int(user)] for user in chosen]
        return [
            {**record, **{name: np.array(record[name]) for name in SEQUENCE_FIELDS}}
            for record in originals
        ]
