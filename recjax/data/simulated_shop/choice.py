"""The probabilities of the simulated shop: what a user does next, and with which item.

Here: utilities, the action distribution, the four choice sets an item comes from, and the full item
distribution. Not here: drawing (`process`) and memory (`mind`). Simulation and oracle call the same
functions, so the oracle is the truth by construction.

Axes: n users at hand (rows `who` of the block), C candidates, A actions, V items.
"""

import numpy as np

from recjax.data.simulated_shop.config import (
    ACTIONS,
    BUY,
    CART,
    CLICK,
    DAY_SECONDS,
    FAVOURITE,
    RATE,
    SEARCH,
    START_TIME,
    VIEW,
)
from recjax.data.simulated_shop.mind import BARGAIN, BOUGHT, CARTED, CLICKED, VIEWED, Mind
from recjax.data.simulated_shop.population import People
from recjax.data.simulated_shop.world import World

COMPONENTS = ("leaf", "complement", "memory", "stray")
LEAF, COMPLEMENT, MEMORY, STRAY = range(len(COMPONENTS))
_COMPONENT_SHARES = np.array(  # rows: browse, compare, return, bargain
    [
        [0.73, 0.10, 0.05, 0.12],
        [0.85, 0.08, 0.04, 0.03],
        [0.55, 0.10, 0.30, 0.05],
        [0.78, 0.05, 0.07, 0.10],
    ]
)
_FOCUS = 1.3  # weight of the style looked at lately, beside the lasting taste
_LOYALTY = 0.7
_FASHION_DAYS = 7.0  # a launch draws attention for about this long
_CENTRE = -0.6  # typical utility of a chosen item, so that logits below are readable


def utilities(
    world: World,
    people: People,
    mind: Mind,
    who: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """Computes how much users like items at a time.

    Args:
        world: the catalogue.
        people: the block.
        mind: latent states.
        who: int64 [n].
        items: int [n, C]; negative ones are padding.
        times: int64 [n] seconds.

    Returns:
        float64 [n, C]; minus infinity for padding and items not launched yet.
    """
    safe, now = np.maximum(items, 0), times[:, None]
    wish = people.taste[who] + _FOCUS * mind.focus[who]
    value = np.einsum("ncd,nd->nc", world.vector[safe], wish)
    progress = (now - START_TIME) / (world.config.num_days * DAY_SECONDS)
    value += world.appeal[safe] + world.trend[safe] * (2.0 * progress - 1.0)
    bargain = (mind.kind[who] == BARGAIN)[:, None]
    discount = world.log_discount(safe, now)
    distance = world.relative_price[safe] - discount - people.budget[who][:, None] + 0.3 * bargain
    value -= people.price_sensitivity[who][:, None] * distance**2
    value += (discount > 0) * (0.3 + 0.9 * bargain)
    value += _LOYALTY * (world.brand[safe] == mind.loyal_brand[who][:, None])
    launch = world.launch_time[safe]
    age_days = np.abs(now - launch) / DAY_SECONDS
    value += (launch > START_TIME) * np.exp(-age_days / _FASHION_DAYS)
    return np.where((items >= 0) & (launch <= now), value, -np.inf)


def candidate_shares(
    world: World,
    people: People,
    mind: Mind,
    who: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """Computes the chance of each candidate within its choice set, float64 [n, C], rows sum to 1.

    Bought items, the item at hand and items seen a moment ago are avoided, not excluded.
    """
    logits = utilities(world, people, mind, who, items, times)
    logits = logits - 4.0 * (items[:, :, None] == mind.bought[who][:, None, :]).any(2)
    logits -= 1.2 * (items[:, :, None] == mind.recent[who][:, None, :]).any(2)
    logits -= 5.0 * (items == mind.last[who][:, None])
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def candidates(world: World, mind: Mind, who: np.ndarray, component: int) -> np.ndarray:
    """Lists the items of a choice set, int [n, C], negative ones are padding. Not for `STRAY`."""
    if component == LEAF:
        return world.leaf_items[mind.leaf[who]]
    if component == COMPLEMENT:
        return world.complements[np.maximum(mind.anchor[who], 0)]
    return mind.memory[who]


def component_shares(
    world: World, people: People, mind: Mind, who: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Computes the chance of each choice set, float64 [n, 4]; empty sets fall to the leaf."""
    shares = _COMPONENT_SHARES[mind.kind[who]]
    shares[:, STRAY] *= people.novelty[who]
    anchor = mind.anchor[who]
    known = world.first_complement_time[np.maximum(anchor, 0)] <= times
    shares[:, COMPLEMENT] *= (anchor >= 0) & known
    shares[:, MEMORY] *= (mind.memory[who] >= 0).any(axis=1)
    shares[:, LEAF] = 1.0 - shares[:, COMPLEMENT:].sum(axis=1)
    return shares


def action_shares(
    world: World, people: People, mind: Mind, who: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Computes the chance of each action, float64 [n, A], rows sum to 1.

    Everything but search and view is done to the item at hand and depends on the stage of the
    funnel, on how much the item is liked, on its quality and on a running sale.
    """
    stage, item = mind.stage[who], np.maximum(mind.last[who], 0)
    ready = people.readiness[who]
    charm = 0.45 * (mind.charm[who] - _CENTRE)
    value = charm + 0.5 * world.quality[item] + ready
    sale = world.log_discount(item, times)
    shares = np.zeros((len(who), len(ACTIONS)))
    shares[:, CLICK] = np.where(stage == VIEWED, _sigmoid(charm + ready - 0.3), 0.0)
    shares[:, CART] = np.where(stage == CLICKED, _sigmoid(value + 4.0 * sale - 1.6), 0.0)
    favourite = 0.25 * _sigmoid(value) * (1.0 - shares[:, CART])
    shares[:, FAVOURITE] = np.where(stage == CLICKED, favourite, 0.0)
    shares[:, BUY] = np.where(stage == CARTED, _sigmoid(value + 3.0 * sale - 0.7), 0.0)
    shares[:, RATE] = np.where(stage == BOUGHT, 0.35, 0.0)
    rest = 1.0 - shares.sum(axis=1)
    search = people.search_habit[who] * np.where(mind.opening[who], 0.32, 0.06)
    shares[:, SEARCH] = rest * search
    shares[:, VIEW] = rest * (1.0 - search)
    return shares


def item_distribution(
    world: World,
    people: People,
    mind: Mind,
    who: np.ndarray,
    times: np.ndarray,
    actions: np.ndarray,
) -> np.ndarray:
    """Computes the true distribution of the next event's item, given what the user has in mind.

    Args:
        world: the catalogue.
        people: the block.
        mind: latent states just before the event.
        who: int64 [n].
        times: int64 [n] seconds of the event.
        actions: bool [A], actions the event is known to be among; searches count for nothing.

    Returns:
        float64 [n, V], rows sum to 1. Where none of the actions is possible, the event is taken for
        a view.
    """
    result = np.zeros((len(who), world.config.num_items))
    rows = np.arange(len(who))[:, None]
    sets = component_shares(world, people, mind, who, times)
    for component in (LEAF, COMPLEMENT, MEMORY):
        has = np.flatnonzero(sets[:, component] > 0)
        items = candidates(world, mind, who[has], component)
        part = candidate_shares(world, people, mind, who[has], items, times[has])
        part *= sets[has, component, None]
        np.add.at(result, (rows[has], np.maximum(items, 0)), part)  # padding adds zero
    result += sets[:, STRAY, None] * _stray_shares(world, times)
    shares = action_shares(world, people, mind, who, times)
    shares[:, ~actions] = 0.0
    shares[:, SEARCH] = 0.0
    shares[shares.sum(axis=1) == 0.0, VIEW] = 1.0
    shares /= shares.sum(axis=1, keepdims=True)
    result *= shares[:, VIEW, None]
    result[rows[:, 0], np.maximum(mind.last[who], 0)] += 1.0 - shares[:, VIEW]
    return result


def click_probability(
    world: World,
    people: People,
    mind: Mind,
    who: np.ndarray,
    items: np.ndarray,
    positions: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """Computes the chance that users look at a place and click what they see there.

    Args:
        world: the catalogue.
        people: the block.
        mind: latent states.
        who: int64 [n].
        items: int [n, C], all launched.
        positions: int [C], 0 is the first place.
        times: int64 [n] seconds.

    Returns:
        float64 [n, C].
    """
    value = 0.55 * (utilities(world, people, mind, who, items, times) - _CENTRE)
    value += 1.4 * (world.leaf[items] == mind.leaf[who][:, None])
    value += 0.9 * (items[:, :, None] == mind.memory[who][:, None, :]).any(2)
    value -= 2.5 * (items[:, :, None] == mind.bought[who][:, None, :]).any(2)
    value += 0.7 * people.readiness[who][:, None] - 2.1
    return _sigmoid(value) / (1.0 + 0.35 * positions)


def _stray_shares(world: World, times: np.ndarray) -> np.ndarray:
    """Shares of launched items by plain popularity, float64 [n, V]."""
    live = world.num_live(times)
    weights = np.diff(world.popularity, prepend=0.0)
    shown = np.arange(len(weights)) < live[:, None]
    return shown * weights / world.popularity[live - 1][:, None]


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-value))
