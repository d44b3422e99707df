"""The truth about events and impressions that have happened.

Here: finding an event by user and time, and reading the true probabilities off the process while it
runs again. Not here: the probabilities themselves (`choice`). Called by `SimulatedShop`.
"""

from collections.abc import Sequence

import numpy as np

from recjax.data.simulated_shop.choice import item_distribution
from recjax.data.simulated_shop.clock import Clock
from recjax.data.simulated_shop.config import ACTIONS
from recjax.data.simulated_shop.mind import Mind
from recjax.data.simulated_shop.population import People
from recjax.data.simulated_shop.slates import Slates
from recjax.data.simulated_shop.world import World

_CELLS = 2_000_000  # probabilities held at once, beside the result


class ItemOracle:
    """An observer that keeps the true item distribution of the slots asked for."""

    def __init__(
        self,
        world: World,
        people: People,
        wanted: np.ndarray,
        actions: np.ndarray,
        result: np.ndarray,
    ) -> None:
        """Prepares to fill `result`.

        Args:
            world: the catalogue.
            people: the block.
            wanted: int64 [N], row of `result` of each slot, -1 where nobody asks.
            actions: bool [A], what the event is known to be among.
            result: float32 [n, V], filled while the process runs.
        """
        self._world, self._people, self._actions = world, people, actions
        self._wanted, self._result = wanted, result

    def __call__(self, mind: Mind, who: np.ndarray, slots: np.ndarray, times: np.ndarray) -> None:
        """Writes the distributions of those slots that are asked for."""
        asked = np.flatnonzero(self._wanted[slots] >= 0)
        step = max(1, _CELLS // self._world.config.num_items)
        for begin in range(0, len(asked), step):
            rows = asked[begin : begin + step]
            self._result[self._wanted[slots[rows]]] = item_distribution(
                self._world, self._people, mind, who[rows], times[rows], self._actions
            )


def find_slots(clock: Clock, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Finds the slot of each (user row of the block, second).

    Args:
        clock: the block's times.
        rows: int64 [n].
        times: int64 [n] seconds.

    Returns:
        int64 [n], -1 where the user has no event at that second.
    """
    if not len(clock.time):
        return np.full(len(rows), -1)
    keys, wanted = (clock.user << 33) + clock.time, (rows << 33) + times
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[found] == wanted, found, -1)


def find_clicks(
    slates: Slates, users: np.ndarray, rows: np.ndarray, times: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """Finds the true click probability of impressions.

    Args:
        slates: filled strips of a block.
        users: int64 [S], row of the block of each strip.
        rows: int64 [n], row of the block of each impression.
        times: int64 [n] seconds.
        items: int64 [n].

    Returns:
        float64 [n], NaN where that user was not shown that item at that second.
    """
    if not len(users):
        return np.full(len(rows), np.nan)
    keys, wanted = (users << 33) + slates.times, (rows << 33) + times
    strip = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    hit = (slates.items[strip] == items[:, None]) & (keys[strip] == wanted)[:, None]
    chance = slates.probability[strip, hit.argmax(axis=1)]
    return np.where(hit.any(axis=1), chance, np.nan)


def action_mask(actions: Sequence[str] | None) -> np.ndarray:
    """Turns action names into bool [A]; None stands for all.

    Raises:
        ValueError: if a name is not an action of the shop.
    """
    unknown = set(actions or ()) - set(ACTIONS)
    if unknown:
        raise ValueError(f"unknown actions {sorted(unknown)}; the shop knows {list(ACTIONS)}")
    return np.array([actions is None or name in actions for name in ACTIONS])
