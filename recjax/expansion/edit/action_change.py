"""Strategy `action_change`: some actions of a real user replaced by others that fit in between.

The new action follows the log's transition frequencies, p(a | previous) p(next | a), so that no
draw takes a step that the log never took. Items stay, so the gate knows these draws by items and
actions.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import Editor, UserEdits, count_share, edit_recent
from recjax.expansion.records import Record, RecordSource, iterate
from recjax.expansion.strategy import ExpansionData


class ActionChange(Editor):
    """Draws users with other actions; items and clock stay."""

    name = "action_change"
    judged_by: tuple[str, ...] = ("items", "actions")  # same items by design

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Counts the transitions; returns the users that have an action with an alternative."""
        chain = fit_chain(data.source)
        change = partial(_change, share=get_settings(data, self.name).action_share, chain=chain)
        return edit_recent(
            data, partial(_can_change, chain=chain), change, num_uniforms=2 * data.max_len
        )


def fit_chain(source: RecordSource) -> np.ndarray:
    """Returns float64 [1 + A, A], p(action | previous one); row 0 is that of first events."""
    size = 1 + max((int(record["actions"].max()) for record in iterate(source)), default=0)
    counts = np.zeros((1 + size, size))
    for record in iterate(source):
        actions = record["actions"]
        np.add.at(counts, (np.concatenate([[0], 1 + actions[:-1]]), actions), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def find_alternatives(chain: np.ndarray, actions: np.ndarray, place: int) -> np.ndarray:
    """Returns float64 [A], the odds of every action at a place but of the one that is there.

    Args:
        chain: float64 [1 + A, A], see `fit_chain`.
        actions: int [L].
        place: 0..L - 1.
    """
    odds = np.array(chain[1 + actions[place - 1] if place else 0])
    if place + 1 < len(actions):
        odds *= chain[1:, actions[place + 1]]
    odds[actions[place]] = 0
    return odds


def _can_change(record: Record, *, chain: np.ndarray) -> bool:
    actions = record["actions"]
    return any(find_alternatives(chain, actions, place).any() for place in range(len(actions)))


def _change(record: Record, uniforms: np.ndarray, *, share: float, chain: np.ndarray) -> Record:
    """Changes places in random order, each in view of its neighbours as they are by then."""
    actions, length = record["actions"], len(record["actions"])
    order, choice = uniforms.reshape(2, -1)
    left = count_share(share, length, 1, length)
    for place in np.argsort(order[:length], kind="stable"):
        ends = np.cumsum(find_alternatives(chain, actions, place))
        if left and ends[-1] > 0:
            actions[place] = np.searchsorted(ends, choice[place] * ends[-1], side="right")
            left -= 1
    return record
