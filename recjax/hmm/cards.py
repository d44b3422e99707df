"""State cards: what each hidden state does, in plain dicts for a report; host only."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from recjax.hmm.emissions import CategoryItems, PlainItems
from recjax.hmm.parameters import HmmParams
from recjax.hmm.validation import validate_params

_DECIDING = ("buy", "cart", "favourite", "rate", "review")


def describe_states(
    params: HmmParams,
    action_names: Sequence[str],
    *,
    item_names: Sequence[str] | None = None,
    item_category: np.ndarray | None = None,
    category_names: Sequence[str] | None = None,
    segment_shares: np.ndarray | None = None,
    top: int = 5,
) -> list[dict]:
    """Returns one card per state, the most visited first.

    Args:
        params: the model.
        action_names: names of the A actions.
        item_names: names of the V items; None: their indices.
        item_category: int [V]; None: that of the model, if its items come by category.
        category_names: names of the categories; None: their indices.
        segment_shares: share of users of each of the S segments; None: all equal.
        top: entries of the lists.

    Returns:
        Dicts with state, name (a suggestion: browsing, comparing, deciding or leaving), visit_share
        (of all events), start (of all users), start_by_segment (S probabilities), stop, dwell
        (expected events in a row in this state), kernel_weight,
        actions {name: probability}, typical_gap_bin (median), top_items and top_categories
        [(name, probability)] of the state's own distribution, and next [(state, probability)].

    Raises:
        ValueError: if a table is no distribution or the names do not fit.
    """
    params = jax.tree.map(np.asarray, params)
    validate_params(params)
    if len(action_names) != params.action.shape[1]:
        raise ValueError(f"{len(action_names)} action names: expected {params.action.shape[1]}")
    own = _own_items(params)
    by_category = _by_category(own, item_category, params)
    if segment_shares is None:
        segment_shares = np.ones(params.sizes.num_segments)
    start = segment_shares @ params.start / np.sum(segment_shares)
    stays, stops = _stays(params)
    visits = _visit_shares(params, start, stays)
    cards = []
    for state in np.argsort(-visits, kind="stable").tolist():
        card = {
            "state": state,
            "visit_share": float(visits[state]),
            "start": float(start[state]),
            "start_by_segment": params.start[:, state].tolist(),
            "stop": float(stops[state]),
            "dwell": float(1 / max(1 - stays[state], 1e-6)),
            "kernel_weight": float(params.mix[state]),
            "actions": dict(zip(action_names, params.action[state].tolist(), strict=True)),
            "typical_gap_bin": int((np.cumsum(params.gap[state]) < 0.5).sum()),
            "top_items": _top(own[state], item_names, top),
            "top_categories": []
            if by_category is None
            else _top(by_category[state], category_names, top),
            "next": _top(params.transition[state], None, top),
        }
        card["name"] = _name(card, params, visits, stays, stops)
        cards.append(card)
    return cards


def _own_items(params: HmmParams) -> np.ndarray:
    if isinstance(params.items, PlainItems):
        return np.asarray(params.items.table).T
    items = params.items
    return items.category[:, items.category_of] * items.item_in_category[None, :]


def _by_category(
    own: np.ndarray, item_category: np.ndarray | None, params: HmmParams
) -> np.ndarray | None:
    if item_category is None and isinstance(params.items, CategoryItems):
        item_category = params.items.category_of
    if item_category is None:
        return None
    return np.stack([np.bincount(item_category, row) for row in own])


def _stays(params: HmmParams) -> tuple[np.ndarray, np.ndarray]:
    """Probability [K] that an event is followed by one of the same stay, and by none at all."""
    if params.duration is None:
        return (1 - params.stop) * np.diag(params.transition), params.stop
    dwell = params.duration @ np.arange(1, params.duration.shape[1] + 1)
    return 1 - 1 / dwell, params.stop / dwell


def _visit_shares(params: HmmParams, start: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Share of all events that each state makes: start (1 - moves)^-1, over its sum."""
    moves = (1 - params.stop)[:, None].astype(np.float64) * params.transition
    identity = np.eye(params.num_states) * (1 + 1e-9)  # a model that never stops stays solvable
    visits = np.maximum(np.linalg.solve((identity - moves).T, start), 0)
    if params.duration is not None:
        visits = visits / (1 - stays)  # these were stays, not events
    return visits / visits.sum()


def _top(values: np.ndarray, names: Sequence[str] | None, top: int) -> list[tuple]:
    order = np.argsort(-values, kind="stable")[:top].tolist()
    return [(place if names is None else names[place], float(values[place])) for place in order]


def _name(
    card: dict, params: HmmParams, visits: np.ndarray, stays: np.ndarray, stops: np.ndarray
) -> str:
    """The rule: half as many more stops than usual, twice the decisions, long stays or the rest."""
    if card["stop"] > 1.5 * float(visits @ stops) and card["stop"] > 0.25:
        return "leaving"
    decisions = [i for i, name in enumerate(card["actions"]) if name in _DECIDING]
    share = params.action[:, decisions].sum(1)
    if decisions and share[card["state"]] > max(2 * float(visits @ share), 0.1):
        return "deciding"
    usual = 1 / max(1e-6, 1 - float(visits @ stays))
    if card["dwell"] > usual or card["kernel_weight"] > 1.2 * float(visits @ params.mix):
        return "comparing"
    return "browsing"
