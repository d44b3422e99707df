"""Blocks of users: the unit in which the shop is simulated.

Here: a block's people, uniforms and times, and how they are drawn for the shop's own users and for
fresh ones. Not here: what the users do (`process`). Called by `SimulatedShop`.
"""

import dataclasses

import numpy as np

from recjax.data.simulated_shop import dirt
from recjax.data.simulated_shop.clock import Clock, draw_clock
from recjax.data.simulated_shop.population import People, draw_people, draw_tape
from recjax.data.simulated_shop.process import Observer, Steps, simulate
from recjax.data.simulated_shop.slates import Slates, prepare_slates
from recjax.data.simulated_shop.tables import user_name
from recjax.data.simulated_shop.world import World


@dataclasses.dataclass(frozen=True)
class Block:
    """Users side by side, before they have done anything.

    Attributes:
        world: the catalogue.
        people: the users; bots have no event slots.
        bots: int64, rows of the block that are bots.
        names: object [B], user names.
        tape: float64 [N, len(TAPE)], uniforms of the event slots.
        clock: times of the event slots.
    """

    world: World
    people: People
    bots: np.ndarray
    names: np.ndarray
    tape: np.ndarray
    clock: Clock

    def simulate(self, *observers: Observer) -> Steps:
        """Lets the users live."""
        return simulate(self.world, self.people, self.clock, self.tape, observers)

    def slates(self) -> Slates:
        """Prepares the block's impressions; simulate with them as an observer to fill them."""
        return prepare_slates(self.world, self.people, self.tape, self.clock.time)


def draw_registered(world: World, users: np.ndarray) -> tuple[People, np.ndarray]:
    """Draws the shop's users of these numbers, int64 [B], and which rows are bots."""
    people = draw_people(world, [[world.config.seed, user] for user in users.tolist()])
    bots = dirt.is_bot(world.config, users)
    people.counts[bots] = 0  # bots do not live through the process
    return people, np.flatnonzero(bots)


def draw_block(world: World, users: np.ndarray) -> Block:
    """Draws the block of the shop's users of these numbers, int64 [B]."""
    people, bots = draw_registered(world, users)
    tape = draw_tape(people)
    return Block(world, people, bots, user_names(users), tape, draw_clock(people, tape))


def draw_fresh_block(world: World, seed: int, users: np.ndarray) -> Block:
    """Draws a block of users outside the shop's own: another stream, no bots."""
    people = draw_people(world, [[world.config.seed, user, 1, seed] for user in users.tolist()])
    tape = draw_tape(people)
    none = np.zeros(0, np.int64)
    return Block(world, people, none, user_names(users), tape, draw_clock(people, tape))


def user_names(users: np.ndarray) -> np.ndarray:
    """Names users by number: object [B]."""
    return np.array([user_name(user) for user in users.tolist()], object)
