"""Bots and spoiled rows: the part of the log that cleaning must find.

Here: who is a bot, what bots do, which rows are repeated with a fault. Not here: writing tables
(`tables`). Called by `tables` and `SimulatedShop`.

Spoiled rows stand beside the true ones, never instead of them: a log cleaned without error is the
true log.
"""

import numpy as np

from recjax.data.simulated_shop.config import CLICK, START_TIME, VIEW, ShopConfig
from recjax.data.simulated_shop.population import COLUMN, People
from recjax.data.simulated_shop.world import World

DIRT_KINDS = (
    "duplicate", "old_clock", "future_clock", "null_user", "unknown_action", "null_item",
)  # fmt: skip
DUPLICATE, OLD_CLOCK, FUTURE_CLOCK, NULL_USER, UNKNOWN_ACTION, NULL_ITEM = range(len(DIRT_KINDS))
UNKNOWN_ACTION_NAME = "hover"
_FUTURE_TIME = 4070908800  # 2099-01-01


def is_bot(config: ShopConfig, users: np.ndarray) -> np.ndarray:
    """Says which user numbers are bots: an exact share of them, evenly spread.

    >>> is_bot(ShopConfig(bot_share=0.25, seed=0), np.arange(8)).sum()
    np.int64(2)
    """
    shift = config.seed % 97
    turns = np.floor((users + shift + 1) * config.bot_share)
    return turns > np.floor((users + shift) * config.bot_share)


def bot_events(world: World, people: People, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes the events of one bot: times int64 [n] seconds, actions int64 [n], items int64 [n].

    Half of the bots are faster than any hand (three events a second, so their seconds repeat); the
    others keep an exact gap between 20 and 59 s. All crawl the catalogue in order.
    """
    rng = people.rngs[row]
    number, begin, gap, first = rng.random(4)
    fast = people.region[row] % 2 == 0
    number = int(130 + 80 * number) if fast else int(70 + 60 * number)
    days = people.arrival[row] + begin * (people.leave[row] - people.arrival[row]) * 0.9
    ticks = np.arange(number)
    offsets = ticks // 3 if fast else ticks * int(20 + 40 * gap)
    times = START_TIME + int(days * 86400) + offsets
    live = int(world.num_live(times[:1])[0])
    items = (int(first * live) + ticks) % live
    return times, np.where(ticks % 5 == 4, CLICK, VIEW), items


def dirt_kinds(config: ShopConfig, tape: np.ndarray) -> np.ndarray:
    """Says how each event slot's extra row is spoiled: int64 [N], -1 for no extra row."""
    u = tape[:, COLUMN["dirt"]]
    spoiled = u < config.dirty_share
    kind = (u / max(config.dirty_share, 1e-12) * len(DIRT_KINDS)).astype(np.int64)
    return np.where(spoiled, np.minimum(kind, len(DIRT_KINDS) - 1), -1)


def spoil_times(times: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Puts impossible clocks into the rows whose kind asks for it."""
    within_day = times % 100_000
    times = np.where(kinds == OLD_CLOCK, within_day, times)
    return np.where(kinds == FUTURE_CLOCK, _FUTURE_TIME + within_day, times)
