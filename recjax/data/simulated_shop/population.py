"""Users of the simulated shop and the random numbers each of them owns.

Here: who a user is (attributes, taste, budget, habits), how many events they will have, and the
user's own stream of uniforms. Not here: when events happen (`clock`) or what they are (`process`).
Called by `SimulatedShop`.

A user's numbers come from `default_rng([seed, user])` alone, so that any user can be simulated
again without the others. Axes: B users of a block, N event slots of the block (user after user).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from recjax.data.simulated_shop import words
from recjax.data.simulated_shop.config import DAY_SECONDS, START_TIME, ShopConfig
from recjax.data.simulated_shop.world import STYLE_DIM, World

NUM_PREFERRED = 4  # leaf categories a user comes back to
PREFERRED_SHARES = np.array([0.45, 0.27, 0.18, 0.10])
MAX_EVENTS = 600  # of one user
_MEDIAN_EVENTS = 8.5  # per 60 days of membership
_LATE_SHARE = 0.3  # users who register while the log runs
_CHURN_SHARE = 0.15  # users who leave before its end
_AGE_BUDGET = np.array([-0.45, -0.1, 0.15, 0.25, 0.0])

(
    _SEGMENT, _AGE, _REGION, _DEVICE, _LATE, _ARRIVAL, _CHURN, _LEAVE, _SESSION, _HOURS, _SEARCH,
    _NOVELTY, _FIRST_LEAF, _PAIR,
) = range(14)  # fmt: skip
_NUM_UNIFORMS = _FIRST_LEAF + NUM_PREFERRED + 1
_NUM_NORMALS = STYLE_DIM + 4

# Columns of the tape: what each event slot's uniforms decide.
TAPE = (
    "session", "gap", "pause", "kind", "source", "leaf", "duration", "action", "component", "item",
    "after", "query", "rating", "dirt", "slate",
)  # fmt: skip
COLUMN = {name: number for number, name in enumerate(TAPE)}


@dataclasses.dataclass
class People:
    """The users of one block; every array starts with axis B.

    Attributes:
        segment: int64, index into `words.SEGMENTS`; likewise age_band, region, device.
        arrival: float64, days after the shop's start.
        leave: float64, days; the last day of membership.
        taste: float64 [B, D], liking of styles.
        price_sensitivity: float64, weight of the squared distance to the budget.
        budget: float64, preferred relative price.
        readiness: float64, added to the logits of clicks, carts and buys.
        search_habit: float64, factor on the chance of a search.
        novelty: float64, factor on the chance to stray.
        session_len: float64, mean events per session.
        hours: int64, 0 morning, 1 midday, 2 evening person.
        preferred: int32 [B, NUM_PREFERRED], leaf categories.
        counts: int64, events until the log ends.
        rngs: one generator per user, behind the draws above.
    """

    segment: np.ndarray
    age_band: np.ndarray
    region: np.ndarray
    device: np.ndarray
    arrival: np.ndarray
    leave: np.ndarray
    taste: np.ndarray
    price_sensitivity: np.ndarray
    budget: np.ndarray
    readiness: np.ndarray
    search_habit: np.ndarray
    novelty: np.ndarray
    session_len: np.ndarray
    hours: np.ndarray
    preferred: np.ndarray
    counts: np.ndarray
    rngs: list[np.random.Generator]

    @property
    def offsets(self) -> np.ndarray:
        """int64 [B + 1], first slot of each user; the last entry is N."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @property
    def valid_from(self) -> np.ndarray:
        """int64 [B], the second of registration."""
        return START_TIME + (self.arrival * DAY_SECONDS).astype(np.int64)


def draw_people(world: World, seeds: Sequence[Sequence[int]]) -> People:
    """Draws the users whose streams start from `seeds`, one list of integers each."""
    rngs = [np.random.default_rng(seed) for seed in seeds]
    u = np.empty((len(rngs), _NUM_UNIFORMS))
    z = np.empty((len(rngs), _NUM_NORMALS))
    for row, rng in enumerate(rngs):
        rng.random(out=u[row])
        rng.standard_normal(out=z[row])
    segment = _pick(u[:, _SEGMENT], len(words.SEGMENTS))
    age = _pick(u[:, _AGE], len(words.AGE_BANDS))
    device = _pick(u[:, _DEVICE], len(words.DEVICES))
    arrival, leave = _membership(world.config, u)
    return People(
        segment=segment,
        age_band=age,
        region=_pick(u[:, _REGION], len(words.REGIONS)),
        device=device,
        arrival=arrival,
        leave=leave,
        taste=world.segment_style[segment] + 0.8 * z[:, :STYLE_DIM],
        price_sensitivity=1.2 * np.exp(0.5 * z[:, STYLE_DIM + 1]),
        budget=_AGE_BUDGET[age] + 0.35 * z[:, STYLE_DIM + 2],
        readiness=0.5 * z[:, STYLE_DIM + 3],
        search_habit=np.array([0.8, 0.8, 1.4, 1.0])[device] * (0.5 + u[:, _SEARCH]),
        novelty=2.0 * u[:, _NOVELTY],
        session_len=2.5 + 4.0 * u[:, _SESSION],
        hours=_pick(u[:, _HOURS], 3),
        preferred=_preferred(world, segment, u),
        counts=_event_counts(z[:, STYLE_DIM], leave - arrival),
        rngs=rngs,
    )


def draw_tape(people: People) -> np.ndarray:
    """Draws the uniforms of all event slots: float64 [N, len(TAPE)]."""
    return _draw_rows(people.rngs, people.offsets, len(TAPE))


def draw_slate_tape(people: People, shown: np.ndarray, width: int) -> np.ndarray:
    """Draws `width` uniforms per slate, behind the tape; `shown` bool [N] marks their slots."""
    running = np.concatenate([[0], np.cumsum(shown)])
    return _draw_rows(people.rngs, running[people.offsets], width)


def _draw_rows(rngs: list[np.random.Generator], offsets: np.ndarray, width: int) -> np.ndarray:
    tape = np.empty((int(offsets[-1]), width))
    bounds = offsets.tolist()
    for rng, begin, end in zip(rngs, bounds[:-1], bounds[1:], strict=True):
        if end > begin:
            rng.random(out=tape[begin:end])
    return tape


def _pick(uniforms: np.ndarray, count: int) -> np.ndarray:
    """Turns uniforms into indices; squares them first so that some values are rarer."""
    return (uniforms**1.3 * count).astype(np.int64)


def _membership(config: ShopConfig, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws when users register and leave, in days; everyone stays at least a day."""
    late = u[:, _LATE] < _LATE_SHARE
    arrival = np.where(late, u[:, _ARRIVAL] * (config.num_days - 2), 0.0)
    span = config.num_days - arrival
    churned = u[:, _CHURN] < _CHURN_SHARE
    stay = np.where(churned, np.maximum(1.0, span * u[:, _LEAVE]), span)
    return arrival, arrival + stay


def _event_counts(z: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Log-normal numbers of events: a long tail of users with very few."""
    wanted = _MEDIAN_EVENTS * np.exp(1.15 * z) * (days / 60.0) ** 0.8 + 1.0
    return np.clip(np.round(wanted), 1, MAX_EVENTS).astype(np.int64)


def _preferred(world: World, segment: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draws leaves from the segment's shares; half of the users pair two complements."""
    mean_season = np.full(len(u), len(world.leaf_draws) // (world.num_leaves * len(words.SEGMENTS)))
    columns = [
        world.draw_leaf(mean_season - 1, segment, u[:, _FIRST_LEAF + 1 + j])
        for j in range(NUM_PREFERRED)
    ]
    pair = world.complement_leaves[columns[0], 0]
    columns[1] = np.where(u[:, _PAIR] < 0.5, pair, columns[1])
    return np.stack(columns, axis=1).astype(np.int32)
