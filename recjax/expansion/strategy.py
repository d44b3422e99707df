"""What every strategy is and is given: the interface, its data, and draws that depend on rows only.

Not here: the strategies (`generate`, `edit`) and their registry (`registry`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from recjax.expansion.gate.hashing import mix
from recjax.expansion.records import Record, RecordSource

if TYPE_CHECKING:
    from recjax.expansion.edit.settings import EditConfig
    from recjax.expansion.generate.generator import GeneratorState
    from recjax.expansion.generate.item_by_item import NextItemModel
    from recjax.expansion.generate.masked_fill import MaskedModel
    from recjax.expansion.similarity import SimilarItems

_STRIDE = np.uint64(0xD1B54A32D192ED03)  # odd, so that the numbers of a row never meet
# fresh_users(seed, first, n) -> records of new users first..first + n - 1 of the true process
FreshUsersFn = Callable[[int, int, int], Sequence[Record]]


@dataclass(frozen=True)
class ExpansionData:
    """What strategies may look at: the training part and what was fitted on it.

    Attributes:
        source: training records of the real users; their `user` is their index here or not.
        session_gap_seconds: a longer gap opens a new session.
        short_user_events: users with at most this many events are short.
        max_len: most events of a drawn record.
        generator: the fitted HMM of this seed; None where no strategy needs it.
        fresh_users: draws of the true process, where somebody knows it; None elsewhere.
        rare_items: bool [V], items that the gate holds to be rare; None without a gate.
        edits: how much edits of real users change; None where there are none.
        similar: lists of similar items; None where no strategy needs them.
        item_category: int [V], 0 = none; None where the catalogue is unknown.
        train_next_item: (strategy, seed) -> the trained model that it draws from; None where nobody
            can train.
        load_masked: seed -> a masked-item model that an earlier run trained; None without one.
    """

    source: RecordSource
    session_gap_seconds: int
    short_user_events: int
    max_len: int
    generator: "GeneratorState | None" = None
    fresh_users: FreshUsersFn | None = None
    rare_items: np.ndarray | None = None
    edits: "EditConfig | None" = None
    similar: "SimilarItems | None" = None
    item_category: np.ndarray | None = None
    train_next_item: "Callable[[str, int], NextItemModel] | None" = None
    load_masked: "Callable[[int], MaskedModel] | None" = None


class Strategy(Protocol):
    """A way to make training records.

    Attributes:
        name: its key in `config.expansion.arms`.
        judged_by: what of an event the gate knows users by when it looks for copies of real users
            and of draws, some of `gate.tokens.FIELDS`; () for control arms that copy by design, of
            which only validity is asked.
        needs: fields of `ExpansionData` that may be None and that it cannot do without; what no
            strategy of a config needs is not made.
    """

    name: str
    judged_by: tuple[str, ...]
    needs: tuple[str, ...]

    def fit(self, data: ExpansionData, seed: int) -> Any:
        """Returns the fitted state; the data are only read."""

    def draw(self, key: jax.Array, state: Any, n: int, first_row: int) -> Sequence[Record]:
        """Returns the records of rows first_row..first_row + n - 1, or none if there never are any.

        Row b depends on (key, state, b) alone, so that neither n nor the order of calls matters.
        Records have weight 1, source 0 (the caller marks them) and arrays of their own.
        """


def draw_uniforms(key: jax.Array, first_row: int, n: int, width: int) -> np.ndarray:
    """Returns float64 [n, width] in [0, 1); row i depends on (key, first_row + i) alone.

    On the host, by counting and mixing: nothing to compile, and 53 bits where clocks need them.

    Args:
        key: PRNG key.
        first_row: number of the first row, 0 or more.
        n: rows.
        width: numbers per row; more of them leave the first ones as they were.
    """
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for word in np.asarray(jax.random.key_data(key)).ravel():
            state = mix(state + np.uint64(word))
        rows = mix(state + np.arange(first_row, first_row + n, dtype=np.uint64))
        bits = mix(rows[:, None] + np.arange(width, dtype=np.uint64)[None, :] * _STRIDE)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def pick_in_turn(key: jax.Array, rows: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Returns one choice per row: all of them in random order, then the same again, and so on.

    Args:
        key: PRNG key; decides the order.
        rows: int64 [n], row numbers.
        choices: int [N], N >= 1.
    """
    words = np.asarray(jax.random.key_data(key)).ravel()
    order = np.random.default_rng(words.tolist()).permutation(choices)
    return order[rows % len(choices)]
