"""Strategy `subset_split`: a real user with some events left out, the rest in order.

This is also what hiding events behind [MASK] (CL4SRec) comes to in a record on disk, which holds no
special ids; events are truly hidden in `recjax.tasks.augmentation`, inside the step.

Reference:
    Tan, Xu and Liu (2016), "Improved recurrent neural networks for session-based recommendations"
    (prefixes and dropped clicks).
"""

import numpy as np

from recjax.expansion.edit.user_edits import Editor, UserEdits, edit_recent
from recjax.expansion.records import SEQUENCE_FIELDS, Record
from recjax.expansion.strategy import ExpansionData

_DROP_RATE = 0.3  # share of the events that go
_LEAST = 2


class SubsetSplit(Editor):
    """Draws ordered subsets of real users."""

    name = "subset_split"
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users that can lose an event."""
        return edit_recent(data, _can_drop, _drop, data.max_len)


def _can_drop(record: Record) -> bool:
    return len(record["items"]) > _LEAST


def _drop(record: Record, uniforms: np.ndarray) -> Record:
    """Returns the record less some events: at least one goes, at least two stay."""
    length = len(record["items"])
    order = np.argsort(uniforms[:length], kind="stable")
    number = int(np.clip(np.sum(uniforms[:length] < _DROP_RATE), 1, length - _LEAST))
    kept = np.sort(order[number:])
    fields = {name: record[name][kept] for name in SEQUENCE_FIELDS}
    fields["sessions"] -= fields["sessions"][0]
    return {**record, **fields}
