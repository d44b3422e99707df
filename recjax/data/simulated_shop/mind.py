"""What a simulated user carries from event to event.

Here: the latent state of all users of a block and the rules by which it moves: semi-Markov intents,
what was viewed, carted and bought, what the user has in mind. Not here: the probabilities of the
next event (`choice`). Called by `process`.

An intent lasts a drawn number of events whose distribution is a table, not a geometric one, and it
goes on over the end of a session.
"""

import dataclasses

import numpy as np

from recjax.data.simulated_shop.config import BUY, CART, CLICK, FAVOURITE, RATE, VIEW
from recjax.data.simulated_shop.population import (
    COLUMN,
    PREFERRED_SHARES,
    People,
)
from recjax.data.simulated_shop.world import STYLE_DIM, World, season_of

INTENTS = ("browse", "compare", "return", "bargain")
BROWSE, COMPARE, RETURN, BARGAIN = range(len(INTENTS))
# Share of durations 1, 2, 3, ... events: browsing is short or long, comparing has a peak at eight,
# returning takes three to five, bargains come in two humps.
_DURATION_WEIGHTS = (
    (0, 8, 10, 9, 7, 5, 4, 3, 3, 2, 2, 1, 1, 1),
    (0, 0, 0, 1, 3, 7, 12, 14, 12, 8, 5, 3, 2, 1),
    (0, 1, 6, 8, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 8, 10, 3, 1, 0, 0, 1, 4, 8, 5, 2, 1, 0),
)
DURATIONS = np.array(_DURATION_WEIGHTS, float)
DURATIONS /= DURATIONS.sum(axis=1, keepdims=True)
_RUNNING_DURATIONS = np.cumsum(DURATIONS, axis=1)[:, :-1]
_NEXT_INTENT = np.array(  # never the same kind twice in a row; row len(INTENTS) opens a life
    [
        [0.00, 0.55, 0.20, 0.25],
        [0.45, 0.00, 0.30, 0.25],
        [0.55, 0.30, 0.00, 0.15],
        [0.45, 0.35, 0.20, 0.00],
        [0.45, 0.40, 0.00, 0.15],
    ]
)
_RUNNING_NEXT = np.cumsum(_NEXT_INTENT, axis=1)[:, :-1]
# Stage of the funnel: what was last done with the item at hand.
NOTHING, VIEWED, CLICKED, CARTED, BOUGHT = range(5)
_STAGE_AFTER = np.array([NOTHING, VIEWED, CLICKED, NOTHING, CARTED, BOUGHT, NOTHING])  # by action
MEMORY_WIDTH, BOUGHT_WIDTH, RECENT_WIDTH = 4, 6, 4


@dataclasses.dataclass
class Mind:
    """Latent state of the users of a block, each array with axis B first.

    Attributes:
        kind: int64, intent; len(INTENTS) before the first one.
        leaf: int64, leaf category the intent is about.
        remaining: int64, events the intent will still last.
        opening: bool, the intent has just begun.
        stage: int64, place in the funnel.
        last: int64, item at hand, -1 for none.
        charm: float64, how much the user likes the item at hand.
        anchor: int64, item whose complements come to mind, -1 for none.
        wants_complement: bool, a purchase has just been made.
        loyal_brand: int64, brand last carted or bought, -1 for none.
        focus: float64 [B, D], style of what was looked at lately.
        memory: int64 [B, MEMORY_WIDTH], carted or favourite items not bought, newest first, -1
            none.
        bought: int64 [B, BOUGHT_WIDTH], likewise.
        recent: int64 [B, RECENT_WIDTH], items viewed last, likewise.
    """

    kind: np.ndarray
    leaf: np.ndarray
    remaining: np.ndarray
    opening: np.ndarray
    stage: np.ndarray
    last: np.ndarray
    charm: np.ndarray
    anchor: np.ndarray
    wants_complement: np.ndarray
    loyal_brand: np.ndarray
    focus: np.ndarray
    memory: np.ndarray
    bought: np.ndarray
    recent: np.ndarray


def empty_mind(num_users: int) -> Mind:
    """Returns the state before anybody's first event."""

    def full(value: int, *width: int) -> np.ndarray:
        return np.full((num_users, *width), value, np.int64)

    return Mind(
        kind=full(len(INTENTS)),
        leaf=full(0),
        remaining=full(0),
        opening=np.zeros(num_users, bool),
        stage=full(NOTHING),
        last=full(-1),
        charm=np.zeros(num_users),
        anchor=full(-1),
        wants_complement=np.zeros(num_users, bool),
        loyal_brand=full(-1),
        focus=np.zeros((num_users, STYLE_DIM)),
        memory=full(-1, MEMORY_WIDTH),
        bought=full(-1, BOUGHT_WIDTH),
        recent=full(-1, RECENT_WIDTH),
    )


def open_sessions(mind: Mind, who: np.ndarray) -> None:
    """Starts a session for users `who`: the funnel is over, the focus has faded, memory stays."""
    mind.stage[who] = NOTHING
    mind.focus[who] *= 0.6


def renew_intents(
    world: World, people: People, mind: Mind, who: np.ndarray, times: np.ndarray, u: np.ndarray
) -> None:
    """Counts the current intents down and draws new ones where they ended.

    Args:
        world: the catalogue.
        people: the block.
        mind: changed in place.
        who: int64 [n], distinct rows of the block.
        times: int64 [n] seconds of the event to come.
        u: float64 [n, len(TAPE)], the slots' uniforms.
    """
    mind.remaining[who] -= 1
    mind.opening[who] = False
    over = mind.remaining[who] <= 0
    who, times, u = who[over], times[over], u[over]
    kind = (u[:, COLUMN["kind"], None] >= _RUNNING_NEXT[mind.kind[who]]).sum(1)
    duration = 1 + (u[:, COLUMN["duration"], None] >= _RUNNING_DURATIONS[kind]).sum(1)
    mind.leaf[who] = _new_leaves(world, people, mind, who, times, u)
    mind.kind[who], mind.remaining[who] = kind, duration
    mind.opening[who] = True
    mind.wants_complement[who] = False
    mind.focus[who] *= 0.4


def _new_leaves(
    world: World, people: People, mind: Mind, who: np.ndarray, times: np.ndarray, u: np.ndarray
) -> np.ndarray:
    """Draws what the new intents are about: a complement, an old liking, or the season."""
    source, leaf = u[:, COLUMN["source"]], u[:, COLUMN["leaf"]]
    running = np.cumsum(PREFERRED_SHARES)[:-1]
    old = people.preferred[who, (leaf[:, None] >= running).sum(1)]
    seasonal = world.draw_leaf(season_of(times), people.segment[who], leaf)
    result = np.where(source < 0.75, old, seasonal)
    anchor_leaf = world.leaf[np.maximum(mind.anchor[who], 0)]
    complement = world.complement_leaves[anchor_leaf, (leaf > 0.7).astype(int)]
    follows = mind.wants_complement[who] & (source < 0.55)
    return np.where(follows, complement, result)


def note_event(
    world: World,
    mind: Mind,
    who: np.ndarray,
    actions: np.ndarray,
    items: np.ndarray,
    charm: np.ndarray,
    u: np.ndarray,
) -> None:
    """Moves the state over one event of each user in `who`.

    Args:
        world: the catalogue.
        mind: changed in place.
        who: int64 [n], distinct rows.
        actions: int64 [n].
        items: int64 [n], item of the event; of a search, the item the user has in mind.
        charm: float64 [n], liking of the item.
        u: float64 [n, len(TAPE)].
    """
    mind.stage[who] = _STAGE_AFTER[actions]
    mind.charm[who] = charm
    looked = actions < FAVOURITE  # search, view or click
    mind.focus[who[looked]] *= 0.6
    mind.focus[who[looked]] += 0.4 * world.vector[items[looked]]
    seen = actions == VIEW
    mind.last[who[seen]] = items[seen]
    _push(mind.recent, who[seen], items[seen])
    touched = (actions >= CLICK) & (actions < RATE)
    mind.anchor[who[touched]] = items[touched]
    kept = (actions == CART) | (actions == FAVOURITE)
    _forget(mind.memory, who[kept], items[kept])
    _push(mind.memory, who[kept], items[kept])
    taken = (actions == CART) | (actions == BUY)
    mind.loyal_brand[who[taken]] = world.brand[items[taken]]
    _note_purchase(mind, who, actions == BUY, items, u[:, COLUMN["after"]])


def _note_purchase(
    mind: Mind, who: np.ndarray, bought: np.ndarray, items: np.ndarray, uniforms: np.ndarray
) -> None:
    """A bought item leaves the memory and often ends the intent."""
    buyers = who[bought]
    _forget(mind.memory, buyers, items[bought])
    _push(mind.bought, buyers, items[bought])
    mind.wants_complement[buyers] = True
    done = buyers[uniforms[bought] < 0.6]
    mind.remaining[done] = np.minimum(mind.remaining[done], 2)  # a rating may still follow


def _push(ring: np.ndarray, who: np.ndarray, items: np.ndarray) -> None:
    ring[who, 1:] = ring[who, :-1]
    ring[who, 0] = items


def _forget(ring: np.ndarray, who: np.ndarray, items: np.ndarray) -> None:
    rows = ring[who]
    ring[who] = np.where(rows == items[:, None], -1, rows)
