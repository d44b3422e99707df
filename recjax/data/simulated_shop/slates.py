"""Impressions: a strip of items shown now and then, by a logging policy whose odds are known.

Here: the policy, its propensities, clicks with position bias. Not here: the click probability
itself (`choice`). Called by `SimulatedShop` as an observer of the process.

The policy sees only what a shop sees: the item viewed last. Half of the strips show items of its
category, the others any items; within the pool it is uniform, so a propensity is exact. Place p
takes an item whose number within the pool has the remainder (p + shift) mod NUM_PLACES, which rules
out doubles. Clicks in the strip do not move the user's state and are not events of the log.
"""

import dataclasses

import numpy as np

from recjax.data.simulated_shop.choice import click_probability
from recjax.data.simulated_shop.mind import Mind
from recjax.data.simulated_shop.population import COLUMN, People, draw_slate_tape
from recjax.data.simulated_shop.world import World

NUM_PLACES = 6
CATEGORY_SHARE = 0.5  # strips from the category of the item viewed last
_SHOWN_SHARE = 0.16  # event slots that come with a strip
_WIDTH = 2 + 2 * NUM_PLACES  # uniforms: pool, shift, items, clicks


@dataclasses.dataclass
class Slates:
    """Strips of one block; an observer that fills itself while the process runs.

    Attributes:
        slots: int64 [S], event slots right before which a strip is shown, ascending.
        times: int64 [S] seconds, one before the event's.
        items: int64 [S, P], -1 where the process never came.
        propensity: float64 [S, P], the policy's chance to show this item at this place.
        probability: float64 [S, P], true chance of a click.
        clicked: bool [S, P].
    """

    world: World
    people: People
    tape: np.ndarray
    row_of_slot: np.ndarray
    slots: np.ndarray
    times: np.ndarray
    items: np.ndarray
    propensity: np.ndarray
    probability: np.ndarray
    clicked: np.ndarray

    def __call__(self, mind: Mind, who: np.ndarray, slots: np.ndarray, times: np.ndarray) -> None:
        """Shows strips to those whose slot has one, and draws their clicks."""
        rows = self.row_of_slot[slots]
        shown = rows >= 0
        if not shown.any():
            return
        who, rows, times = who[shown], rows[shown], times[shown] - 1
        u = self.tape[rows]
        items, propensity = _draw_strips(self.world, mind.last[who], times, u)
        places = np.arange(NUM_PLACES)
        chance = click_probability(self.world, self.people, mind, who, items, places, times)
        self.items[rows], self.propensity[rows], self.probability[rows] = items, propensity, chance
        self.clicked[rows] = u[:, 2 + NUM_PLACES :] < chance


def prepare_slates(
    world: World, people: People, tape: np.ndarray, event_times: np.ndarray
) -> Slates:
    """Decides which slots show a strip and draws the uniforms for it."""
    shown = tape[:, COLUMN["slate"]] < _SHOWN_SHARE
    slots = np.flatnonzero(shown)
    shape = (len(slots), NUM_PLACES)
    return Slates(
        world=world,
        people=people,
        tape=draw_slate_tape(people, shown, _WIDTH),
        row_of_slot=np.where(shown, np.cumsum(shown) - 1, -1),
        slots=slots,
        times=event_times[slots] - 1,
        items=np.full(shape, -1, np.int64),
        propensity=np.zeros(shape),
        probability=np.zeros(shape),
        clicked=np.zeros(shape, bool),
    )


def _draw_strips(
    world: World, last: np.ndarray, times: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws items int64 [n, P] and their propensities float64 [n, P]."""
    live = world.num_live(times)
    group = world.group[np.maximum(last, 0)]
    members = world.group_items[group]
    pool = ((members >= 0) & (members < live[:, None])).sum(axis=1)
    usable = (last >= 0) & (pool >= NUM_PLACES)
    by_category = usable & (u[:, 0] < CATEGORY_SHARE)
    size = np.where(by_category, pool, live)
    shift = (u[:, 1] * NUM_PLACES).astype(np.int64)
    remainder = (np.arange(NUM_PLACES) + shift[:, None]) % NUM_PLACES
    turns = _class_sizes(size[:, None], remainder)
    number = (u[:, 2 : 2 + NUM_PLACES] * turns).astype(np.int64) * NUM_PLACES + remainder
    in_group = members[np.arange(len(last))[:, None], np.minimum(number, members.shape[1] - 1)]
    items = np.where(by_category[:, None], in_group, number)
    chance = np.where(usable, 1.0 - CATEGORY_SHARE, 1.0)[:, None] / (
        NUM_PLACES * _class_sizes(live[:, None], items % NUM_PLACES)
    )
    place = (members[:, None, :] < items[:, :, None]).sum(2) - (members < 0).sum(1)[:, None]
    fits = usable[:, None] & (world.group[items] == group[:, None])
    among = 1.0 / (NUM_PLACES * np.maximum(_class_sizes(pool[:, None], place % NUM_PLACES), 1))
    return items, chance + fits * CATEGORY_SHARE * among


def _class_sizes(size: np.ndarray, remainder: np.ndarray) -> np.ndarray:
    """Counts the numbers below `size` that leave `remainder` when divided by NUM_PLACES."""
    return (size - remainder + NUM_PLACES - 1) // NUM_PLACES
