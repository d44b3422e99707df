"""Slices: the groups of targets for which every result is told apart.

Lives here: boolean masks over evaluation examples. Not here: metrics and the rule that a small
slice says "too few" (`results`). Called by the evaluate stage. numpy only.

Names are stable, they are keys of results.json: history_1_4, history_5_6, history_7_19,
history_20_up, target_cold, target_tail, target_middle, target_head, category_new, category_known,
other_day, same_day, cold_user.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

HISTORY_BOUNDS = {
    "history_1_4": (1, 4),
    "history_5_6": (5, 6),
    "history_7_19": (7, 19),
    "history_20_up": (20, np.iinfo(np.int64).max),
}
HEAD_SHARE = 0.5  # the most popular items that make up this share of the events
TAIL_SHARE = 0.2  # the least popular items that make up at most this share
DAY_SECONDS = 86_400

TITLES = {
    "history_1_4": "history of 1-4 events",
    "history_5_6": "history of 5-6 events",
    "history_7_19": "history of 7-19 events",
    "history_20_up": "history of 20 events and more",
    "target_cold": "target never seen in training",
    "target_tail": "tail targets",
    "target_middle": "middle targets",
    "target_head": "head targets",
    "category_new": "category new to the user",
    "category_known": "category known to the user",
    "other_day": "target on another day",
    "same_day": "target on the same day",
    "cold_user": "users without training events",
    "pair_unseen": "pairs unseen in training",
    "pair_seen": "pairs seen in training",
}


def ordered(names: Iterable[str]) -> list[str]:
    """Sorts slices as `TITLES` does, unknown ones last."""
    places = {name: place for place, name in enumerate(TITLES)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


@dataclasses.dataclass(frozen=True)
class ExampleFacts:
    """What slices are made from; None leaves the slices of that fact out.

    Attributes:
        history_lengths: int [N], events before the target.
        targets: int [N], item ids.
        train_counts: int [V], training events of each item id.
        category_new: bool [N], the target's category is not in the history; see `new_categories`.
        category_known: bool [N], it is. Both False where the target has no category.
        last_times: int64 [N], time of the event before the target (s); < 0 = none.
        target_times: int64 [N], time of the target (s).
        cold_users: bool [N], the user has no training event.
    """

    history_lengths: np.ndarray
    targets: np.ndarray
    train_counts: np.ndarray
    category_new: np.ndarray | None = None
    category_known: np.ndarray | None = None
    last_times: np.ndarray | None = None
    target_times: np.ndarray | None = None
    cold_users: np.ndarray | None = None


def popularity_groups(train_counts: np.ndarray) -> np.ndarray:
    """Names each item's group by the share of training events that more popular items take.

    Head: the most popular items that together make up half of the events; tail: the least popular
    that make up at most a fifth; items of equal count are never split; cold: no training event.

    Args:
        train_counts: int [V].

    Returns:
        Array [V] of "cold", "tail", "middle" and "head".
    """
    counts = np.asarray(train_counts, np.int64)
    values, number = np.unique(counts, return_counts=True)
    events = (values * number).astype(np.float64)
    total = max(events.sum(), 1.0)
    above = 1.0 - np.cumsum(events) / total  # share of events of strictly more popular items
    below = np.cumsum(events) / total  # share of this popularity and less
    group = np.where(above < HEAD_SHARE, "head", np.where(below <= TAIL_SHARE, "tail", "middle"))
    group = np.where(values == 0, "cold", group)
    return group[np.searchsorted(values, counts)]


def new_categories(
    targets: np.ndarray, histories: Sequence[np.ndarray], category_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tells whether the target's category is new to the user.

    Args:
        targets: int [B] item ids.
        histories: B int arrays of item ids.
        category_ids: int [V], 0 = no category.

    Returns:
        new bool [B] and known bool [B]; both False where the target has no category.
    """
    wanted = category_ids[targets]
    seen = np.array(
        [
            bool((category_ids[np.asarray(history, np.int64)] == category).any())
            for category, history in zip(wanted, histories, strict=True)
        ],
        dtype=bool,
    )
    return (wanted > 0) & ~seen, (wanted > 0) & seen


def slice_masks(facts: ExampleFacts) -> dict[str, np.ndarray]:
    """Builds the slices of a set of examples.

    Args:
        facts: what is known of the examples.

    Returns:
        {name: bool [N]}; empty slices are kept, so that a report can say so.
    """
    masks = {
        name: (facts.history_lengths >= low) & (facts.history_lengths <= high)
        for name, (low, high) in HISTORY_BOUNDS.items()
    }
    group = popularity_groups(facts.train_counts)[facts.targets]
    masks |= {f"target_{name}": group == name for name in ("cold", "tail", "middle", "head")}
    if facts.category_new is not None and facts.category_known is not None:
        masks |= {"category_new": facts.category_new, "category_known": facts.category_known}
    if facts.last_times is not None and facts.target_times is not None:
        other = facts.last_times // DAY_SECONDS != facts.target_times // DAY_SECONDS
        timed = facts.last_times >= 0
        masks |= {"other_day": other & timed, "same_day": ~other & timed}
    if facts.cold_users is not None:
        masks["cold_user"] = facts.cold_users
    return masks
