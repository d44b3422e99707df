"""Strategy `hmm_basket`: real users with what was in some of their baskets drawn anew.

A basket is what a user did in one second: several events of one time. The clock, the actions and
all other events stay; the items of the chosen baskets are drawn by the HMM given everything else
(`recjax.hmm.sample_fills`). A basket is a set: an item that it holds already is left out.

Reference:
    Rendle, Freudenthaler and Schmidt-Thieme (2010), "Factorizing personalized Markov chains for
    next-basket recommendation", for baskets as what is predicted at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.edit.user_edits import take_recent
from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.generate.hmm_records import require_generator
from recjax.expansion.records import Record, RecordSource, make_record
from recjax.expansion.strategy import ExpansionData, draw_uniforms, pick_in_turn

_BASKET_SHARE = 0.5  # of a user's baskets, which are drawn anew; at least one is


@dataclass(frozen=True)
class BasketState:
    """What draws need.

    Attributes:
        generator: the fitted HMM.
        source: the real users.
        users: int32 [N], places of those with a basket and another event.
        session_gap_seconds: a longer gap opens a new session.
    """

    generator: GeneratorState
    source: RecordSource
    users: np.ndarray
    session_gap_seconds: int


class HmmBasket:
    """Draws users with other baskets, every user who has one in turn; `user` is the real one."""

    name = "hmm_basket"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("generator",)

    def fit(self, data: ExpansionData, seed: int) -> BasketState:
        """Returns who has a basket, after one pass over the users; nothing is fitted anew."""
        generator = require_generator(self.name, data, conditional=True)
        length = generator.config.max_len

        def has_basket(user: int) -> bool:
            basket = find_baskets(take_recent(data.source[user], length)["times"])
            return bool((basket >= 0).any() and np.ptp(basket) > 0)

        users = [user for user in range(len(data.source)) if has_basket(user)]
        places = np.array(users, np.int32)
        return BasketState(generator, data.source, places, data.session_gap_seconds)

    def draw(self, key: jax.Array, state: BasketState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users with other baskets, none where nobody has one; see `Strategy.draw`."""
        if not len(state.users):
            return []
        length = state.generator.config.max_len
        rows = np.arange(first_row, first_row + n)
        chosen = pick_in_turn(jax.random.fold_in(key, 0), rows, state.users)
        originals = [take_recent(state.source[int(user)], length) for user in chosen]
        uniforms = draw_uniforms(jax.random.fold_in(key, 1), first_row, n, length)
        missing = np.zeros((n, length), bool)
        for row, (original, numbers) in enumerate(zip(originals, uniforms, strict=True)):
            anew = choose_baskets(find_baskets(original["times"]), numbers)
            missing[row, : len(anew)] = anew
        drawn = hmm.sample_fills(
            jax.random.fold_in(key, 2),
            state.generator.tables,
            state.generator.make_events(originals, n, length),
            missing,
            first_row=first_row,
        )
        items = state.generator.item_ids[np.asarray(drawn.items)]
        return [
            _join(state, original, items[row], missing[row])
            for row, original in enumerate(originals)
        ]


def find_baskets(times: np.ndarray) -> np.ndarray:
    """Returns int64 [L], the number of each event's basket, -1 for events that are alone.

    Example:
        >>> find_baskets(np.array([3, 5, 5, 9, 9, 9])).tolist()
        [-1, 1, 1, 2, 2, 2]
    """
    _, numbers, sizes = np.unique(times, return_inverse=True, return_counts=True)
    return np.where(sizes[numbers] > 1, numbers, -1)


def choose_baskets(baskets: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Returns bool [L], the events of the baskets that are drawn anew.

    Args:
        baskets: int64 [L], of `find_baskets`, one of them at least.
        uniforms: float64 [T] in [0, 1), one for each number of a basket.
    """
    there = np.unique(baskets[baskets >= 0])
    numbers = uniforms[there]
    chosen = there[(numbers < _BASKET_SHARE) | (numbers == numbers.min())]
    return np.isin(baskets, chosen)


def _join(state: BasketState, original: Record, drawn: np.ndarray, missing: np.ndarray) -> Record:
    """Returns the user with drawn items int [T] at missing places, no item twice in a basket."""
    length = len(original["items"])
    anew = missing[:length]
    items = np.where(anew, drawn[:length], original["items"])
    pairs = np.stack([original["times"], items])
    is_first = np.zeros(length, bool)
    is_first[np.unique(pairs, axis=1, return_index=True)[1]] = True
    kept = is_first | ~anew
    return make_record(
        items[kept],
        original["actions"][kept],
        original["times"][kept],
        session_gap_seconds=state.session_gap_seconds,
        user=original["user"],
    )
