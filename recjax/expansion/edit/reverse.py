"""Strategy `reverse`: a real user's events in reversed order, the clock kept.

Reference:
    Liu et al. (2021), "Augmenting sequential recommendation with pseudo-prior items via reversely
    pre-training transformer" (ASReP), which learns from reversed sequences.
"""

import numpy as np

from recjax.expansion.edit.user_edits import Editor, UserEdits, edit_recent
from recjax.expansion.records import Record
from recjax.expansion.strategy import ExpansionData


class Reverse(Editor):
    """Draws reversed users; items move with their actions. There is one draw per user."""

    name = "reverse"
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users whose items do not read the same backwards."""
        return edit_recent(data, _can_reverse, _reverse, num_uniforms=0)


def _can_reverse(record: Record) -> bool:
    return not np.array_equal(record["items"], record["items"][::-1])


def _reverse(record: Record, uniforms: np.ndarray) -> Record:
    turned = {name: np.array(record[name][::-1]) for name in ("items", "actions")}
    return {**record, **turned}
