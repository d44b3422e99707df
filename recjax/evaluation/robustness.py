"""How a ranking holds when histories are not what they should be: noise, injected clicks, attacks.

What a model reads is spoiled, what it is asked is not: the target and the masked history stay, and
no foreign item is the target. Event b of example i is spoiled alike for every model, and what a
small share spoils a larger one spoils too. Called by `benchmarks/robustness.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recjax.data.record_sources import Source
from recjax.data.records import Record
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.evaluation.ranking import metrics_per_user

ATTACKS = ("noise", "clicks", "popularity")
_POPULAR_SHARE = 0.01  # of the items with training events, those that a popularity attack pushes
_MOST_SHARE = 4  # new events of a history, at most so many times its own
_SEQUENCE_FIELDS = ("items", "actions", "times", "sessions")


@dataclass(frozen=True)
class Attack:
    """What is done to every history.

    Attributes:
        kind: "noise": events get another item, any of the log; "clicks": new events of such items
            stand behind random ones; "popularity": new events of the most popular items do.
        share: of the events of a history, replaced ("noise", at most 1) or added (at most 4).
        item_counts: int64 [V], training events of each item id.
        seed: of the places and items.

    Raises:
        ValueError: if a setting is unknown or out of range, or the log has fewer than two items.
    """

    kind: str
    share: float
    item_counts: np.ndarray
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ATTACKS:
            raise ValueError(f"attack {self.kind!r} is unknown; known: {', '.join(ATTACKS)}")
        most = 1 if self.kind == "noise" else _MOST_SHARE
        if not 0 <= self.share <= most:
            raise ValueError(f"share of {self.kind} is {self.share}; must be from 0 to {most}")
        if len(self._items()) < 2:
            raise ValueError("an attack needs a log of two items or more")

    def spoil(self, record: Record, number: int) -> Record:
        """Returns a next-item example with a spoiled history in arrays of its own.

        Args:
            record: a `next_item` example.
            number: of the example, which with `seed` decides all draws.
        """
        length = len(record["items"])
        rng = np.random.default_rng([self.seed, ATTACKS.index(self.kind), number])
        choices = self._items()
        choices = choices[choices != record["target_item"]]
        foreign = rng.choice(choices, _MOST_SHARE * length)
        count = round(self.share * length)
        if self.kind == "noise":
            items = record["items"].copy()
            places = rng.permutation(length)[:count]
            items[places] = foreign[:count]
            return {**record, "items": items}
        places = rng.integers(0, max(length, 1), len(foreign))[:count]
        order = np.argsort(places, kind="stable")
        behind = places[order]
        fields = {
            name: np.insert(record[name], behind + 1, record[name][behind])
            for name in _SEQUENCE_FIELDS
            if name in record
        }
        items = np.insert(record["items"], behind + 1, foreign[:count][order])
        return {**record, **fields, "items": items}

    def _items(self) -> np.ndarray:
        """The ids that are drawn, int64 [N]."""
        known = np.flatnonzero(self.item_counts)
        known = known[known >= NUM_SPECIALS]
        if self.kind != "popularity":
            return known
        number = max(2, round(_POPULAR_SHARE * len(known)))
        return known[np.argsort(-self.item_counts[known], kind="stable")[:number]]


class AttackedSource:
    """Next-item examples whose histories are attacked."""

    def __init__(self, source: Source, attack: Attack) -> None:
        self._source, self._attack = source, attack

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Returns one example."""
        return self._attack.spoil(self._source[index], index)

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        """Returns the examples of the indices, in their order."""
        numbers = list(indices)
        records = self._source.__getitems__(numbers)
        return [self._attack.spoil(r, n) for r, n in zip(records, numbers, strict=True)]


def robustness_curve(
    rank: Callable[[Source], np.ndarray],
    source: Source,
    item_counts: np.ndarray,
    *,
    shares: Sequence[float],
    attacks: Sequence[str] = ATTACKS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Returns a row for every attack and share: attack, share, ndcg_at_10, sd, kept.

    `kept` is NDCG@10 over that without an attack, of the same members; `sd` is over members.

    Args:
        rank: examples -> ranks float [M, N] of their targets, M members.
        source: next-item examples.
        item_counts: int64 [V], training events of each item id.
        shares: of the events of a history; 0 is always the first row of an attack.
        attacks: some of `ATTACKS`.
        seed: of the attacks.
    """
    clean = _ndcg_of_members(rank(source))
    rows = []
    for kind in attacks:
        for share in dict.fromkeys((0.0, *shares)):
            attacked = AttackedSource(source, Attack(kind, share, item_counts, seed))
            ndcg = _ndcg_of_members(rank(attacked)) if share else clean
            row = {"attack": kind, "share": share, "ndcg_at_10": float(ndcg.mean())}
            row["sd"] = float(ndcg.std(ddof=1)) if len(ndcg) > 1 else None
            rows.append({**row, "kept": float(ndcg.mean() / max(clean.mean(), 1e-12))})
    return rows


def _ndcg_of_members(ranks: np.ndarray) -> np.ndarray:
    return metrics_per_user(ranks, (10,))["ndcg_at_10"].mean(axis=1)
