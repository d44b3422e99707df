"""The behaviour process: all users of a block walk through their events side by side.

Here: the loop over event numbers and the draws of action and item. Not here: probabilities
(`choice`), state (`mind`), times (`clock`), tables. Called by `SimulatedShop` and by the oracle,
which looks over the loop's shoulder with an observer.
"""

import dataclasses
from typing import Protocol

import numpy as np

from recjax.data.simulated_shop import choice
from recjax.data.simulated_shop.clock import Clock
from recjax.data.simulated_shop.config import SEARCH, VIEW
from recjax.data.simulated_shop.mind import (
    Mind,
    empty_mind,
    note_event,
    open_sessions,
    renew_intents,
)
from recjax.data.simulated_shop.population import COLUMN, People
from recjax.data.simulated_shop.world import World


class Observer(Protocol):
    """Sees the latent state of users just before their events are drawn."""

    def __call__(self, mind: Mind, who: np.ndarray, slots: np.ndarray, times: np.ndarray) -> None:
        """Looks, and changes nothing. Rows `who` of the block are about to fill `slots`."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """What happened in a block's slots.

    Attributes:
        action: int64 [N], index into `config.ACTIONS`.
        item: int64 [N]; of a search, the item the user has in mind.
        charm: float64 [N], the user's liking of the item.
        intent: int64 [N], kind of intent, for tests of the process.
        intent_opens: bool [N], the intent begins here.
    """

    action: np.ndarray
    item: np.ndarray
    charm: np.ndarray
    intent: np.ndarray
    intent_opens: np.ndarray


def simulate(
    world: World,
    people: People,
    clock: Clock,
    tape: np.ndarray,
    observers: tuple[Observer, ...] = (),
) -> Steps:
    """Lets every user of a block live through all their slots.

    The loop runs over event numbers; users with the most events come first, so that those still
    active are always a prefix. What a user does depends on that user's uniforms only.
    """
    num_slots = len(tape)
    steps = Steps(
        action=np.zeros(num_slots, np.int64),
        item=np.zeros(num_slots, np.int64),
        charm=np.zeros(num_slots),
        intent=np.zeros(num_slots, np.int64),
        intent_opens=np.zeros(num_slots, bool),
    )
    mind = empty_mind(len(people.counts))
    order = np.argsort(-people.counts, kind="stable")
    counts, offsets = people.counts[order], people.offsets
    for number in range(int(counts[0]) if len(counts) else 0):
        who = order[: np.searchsorted(-counts, -number, side="left")]
        slots = offsets[who] + number
        times, u = clock.time[slots], tape[slots]
        open_sessions(mind, who[clock.starts[slots]])
        renew_intents(world, people, mind, who, times, u)
        for observer in observers:
            observer(mind, who, slots, times)
        action, item, charm = _draw_events(world, people, mind, who, times, u)
        note_event(world, mind, who, action, item, charm, u)
        steps.action[slots], steps.item[slots], steps.charm[slots] = action, item, charm
        steps.intent[slots], steps.intent_opens[slots] = mind.kind[who], mind.opening[who]
    return steps


def _draw_events(
    world: World, people: People, mind: Mind, who: np.ndarray, times: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws action, item and the user's liking of the item."""
    shares = choice.action_shares(world, people, mind, who, times)
    action = _draw_column(shares, u[:, COLUMN["action"]])
    item, charm = mind.last[who], mind.charm[who]
    new = np.flatnonzero(action <= VIEW)
    sets = choice.component_shares(world, people, mind, who[new], times[new])
    component = _draw_column(sets, u[new, COLUMN["component"]])
    component[action[new] == SEARCH] = choice.LEAF  # people search for what they intend
    for part in range(len(choice.COMPONENTS)):
        rows = new[component == part]
        if len(rows):
            item[rows] = _draw_items(world, people, mind, who[rows], times[rows], u[rows], part)
    liked = choice.utilities(world, people, mind, who[new], item[new][:, None], times[new])
    charm[new] = liked[:, 0]
    return action, item, charm


def _draw_items(
    world: World,
    people: People,
    mind: Mind,
    who: np.ndarray,
    times: np.ndarray,
    u: np.ndarray,
    component: int,
) -> np.ndarray:
    uniforms = u[:, COLUMN["item"]]
    if component == choice.STRAY:
        mass = world.popularity[world.num_live(times) - 1]
        return np.searchsorted(world.popularity, uniforms * mass, side="right")
    items = choice.candidates(world, mind, who, component)
    shares = choice.candidate_shares(world, people, mind, who, items, times)
    return items[np.arange(len(who)), _draw_column(shares, uniforms)]


def _draw_column(shares: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draws one column per row, int64 [n]; a column without share is never drawn."""
    running = np.cumsum(shares, axis=1)
    column = (running <= (uniforms * running[:, -1])[:, None]).sum(axis=1)
    return np.minimum(column, shares.shape[1] - 1)
