"""What every strategy is and is given: the interface, its data, and draws that depend on rows only.

Not here: the strategies (`generate`, `edit`) and their registry (`registry`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from recjax.expansion.records import Record, RecordSource

if TYPE_CHECKING:
    from recjax.expansion.generate.generator import GeneratorState

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
    """

    source: RecordSource
    session_gap_seconds: int
    short_user_events: int
    max_len: int
    generator: "GeneratorState | None" = None
    fresh_users: FreshUsersFn | None = None


class Strategy(Protocol):
    """A way to make training records.

    Attributes:
        name: its key in `config.expansion.arms`.
        gated: whether the gate judges its records; False for control arms that copy by design, of
            which only validity is asked.
    """

    name: str
    gated: bool

    def fit(self, data: ExpansionData, seed: int) -> Any:
        """Returns the fitted state; the data are only read."""

    def draw(self, key: jax.Array, state: Any, n: int, first_row: int) -> Sequence[Record]:
        """Returns the records of rows first_row..first_row + n - 1, or none if there never are any.

        Row b depends on (key, state, b) alone, so that neither n nor the order of calls matters.
        Records have weight 1, source 0 (the caller marks them) and arrays of their own.
        """


def draw_uniforms(key: jax.Array, first_row: int, n: int, width: int) -> np.ndarray:
    """Returns float64 [n, width] in [0, 1); row i depends on (key, first_row + i) alone.

    Args:
        key: PRNG key.
        first_row: number of the first row, below 2^32.
        n: rows; one compilation for each (n, width).
        width: numbers per row.
    """
    rows = jnp.arange(n, dtype=jnp.uint32) + np.uint32(first_row)
    return np.asarray(_draw_bits(key, rows, width), np.float64) / 2.0**32


@jax.jit(static_argnames="width")
def _draw_bits(key: jax.Array, rows: jax.Array, width: int) -> jax.Array:
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row), (width,), "uint32"))(
        rows
    )


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
