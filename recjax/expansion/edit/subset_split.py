"""Strategy `subset_split`: a real user with some events left out, the rest in order.

Reference:
    Tan, Xu and Liu (2016), "Improved recurrent neural networks for session-based recommendations"
    (prefixes and dropped clicks).
"""

from collections.abc import Sequence

import jax
import numpy as np

from recjax.expansion.edit.sliding_window import EditState, find_long_users
from recjax.expansion.records import SEQUENCE_FIELDS, Record
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

_DROP_RATE = 0.3  # share of the events that go
_LEAST = 2


class SubsetSplit:
    """Draws ordered subsets of real users, every long enough user in turn."""

    name = "subset_split"
    gated = True
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> EditState:
        """Returns the users that can lose an event."""
        return find_long_users(data, _LEAST + 1)

    def draw(self, key: jax.Array, state: EditState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n subsets, none where nobody is long enough; see `Strategy.draw`."""
        if not len(state.users):
            return []
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, state.max_len)
        return [
            _drop(state.source[int(user)], numbers)
            for user, numbers in zip(chosen, uniforms, strict=True)
        ]


def _drop(record: Record, uniforms: np.ndarray) -> Record:
    """Returns the last events of a record less some: at least one goes, at least two stay."""
    fields = {name: record[name][-len(uniforms) :] for name in SEQUENCE_FIELDS}
    length = len(fields["items"])
    order = np.argsort(uniforms[:length], kind="stable")
    number = int(np.clip(np.sum(uniforms[:length] < _DROP_RATE), 1, length - _LEAST))
    kept = np.sort(order[number:])
    fields = {name: np.array(values[kept]) for name, values in fields.items()}
    fields["sessions"] -= fields["sessions"][0]
    return {**record, **fields}
