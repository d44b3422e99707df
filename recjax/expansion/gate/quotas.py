"""Rare items and categories get their share: which of the draws to keep so that quotas are met.

Every quota is a sum over the kept draws that must not fall below zero, so one rule chooses for all
of them. Not here: what counts as rare (`coverage`) and the drawing of more (`run`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.gate.coverage import find_crossing
from recjax.expansion.gate.reference import RealReference
from recjax.expansion.gate.settings import GateConfig
from recjax.expansion.records import Record, lengths_of, pad_field

RARE_ITEMS, FLOOR, CAP, CROSSING = "rare_items", "category_floor", "category_cap", "cross_category"
_GRID = 1e6  # excesses are integers, since a sum of floats may end a hair below 0 for an exact hit
_MAX_ROUNDS = 200  # of swaps; each brings the quotas nearer


@dataclass(frozen=True)
class Quotas:
    """What the kept draws of a block must hold together.

    Attributes:
        config: settings of the gate.
        reference: the real users.
        names: Q names of quotas, one per column of `measure`; a quota per category has several.
    """

    config: GateConfig
    reference: RealReference
    names: tuple[str, ...]

    @classmethod
    def make(cls, config: GateConfig, reference: RealReference) -> "Quotas":
        """Returns the quotas that the settings ask for.

        Raises:
            ValueError: if a quota of categories is asked for and the log has none.
        """
        cells = len(reference.category_shares)
        columns = {
            RARE_ITEMS: int(config.rare_item_quota > 0),
            FLOOR: cells * (config.category_floor > 0),
            CAP: cells * (config.category_cap > 0),
            CROSSING: int(config.cross_category_quota > 0),
        }
        if not cells and (config.category_floor or config.category_cap or columns[CROSSING]):
            raise ValueError(
                "expansion.gate.category_floor, category_cap and cross_category_quota need a "
                "catalogue with categories; this log has none, set them to 0"
            )
        names = tuple(name for name, number in columns.items() for _ in range(number))
        return cls(config, reference, names)

    def measure(self, records: Sequence[Record]) -> np.ndarray:
        """Returns int64 [B, Q], what each draw has beyond its share of each quota, in 1e-6."""
        if not self.names:
            return np.zeros((len(records), 0), np.int64)
        config, reference = self.config, self.reference
        items, lengths = pad_field(records, "items"), lengths_of(records)[:, None]
        columns = []
        if config.rare_item_quota > 0:
            rare = reference.rare_items[items].sum(axis=1, keepdims=True)  # padding is never rare
            columns.append(rare - config.rare_item_quota * lengths)
        if config.category_floor > 0 or config.category_cap > 0:
            counts = _count_cells(reference.category_cells[items], len(reference.category_shares))
            due = lengths * reference.category_shares
            if config.category_floor > 0:
                columns.append(counts - config.category_floor * due)
            if config.category_cap > 0:
                columns.append(config.category_cap * due - counts)
        if config.cross_category_quota > 0:
            crossing = find_crossing(items, reference.category_of_item)[:, None]
            columns.append(crossing - config.cross_category_quota * reference.crossing_share)
        return np.round(np.concatenate(columns, axis=1) * _GRID).astype(np.int64)

    def select(self, excess: np.ndarray, wanted: int) -> tuple[np.ndarray, set[str]]:
        """Returns the candidates to keep, and the names of the quotas that they miss.

        Args:
            excess: int64 [B, Q], from `measure`.
            wanted: candidates to keep, fewer where there are fewer.
        """
        # categories are counted in whole events: what misses by less than one is met
        slack = np.array([int(_GRID) - 1 if name in (FLOOR, CAP) else 0 for name in self.names])
        kept, missed = select_for_quotas(excess, slack.astype(np.int64), wanted)
        return kept, {self.names[column] for column in np.nonzero(missed)[0]}


def _count_cells(cells: np.ndarray, num_cells: int) -> np.ndarray:
    """Returns int64 [B, C], events of each category; cell -1 counts nowhere."""
    places = np.arange(len(cells))[:, None] * num_cells + cells
    counts = np.bincount(places[cells >= 0], minlength=len(cells) * num_cells)
    return counts.reshape(len(cells), num_cells)


def select_for_quotas(
    excess: np.ndarray, slack: np.ndarray, wanted: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the candidates to keep, and which quotas they miss.

    The first `wanted` candidates are kept; while a quota is missed, those with the least for it
    give way to others with the most, and to no more of them than brings the quotas nearest.

    Args:
        excess: int64 [B, Q], what a candidate has beyond its share.
        slack: int64 [Q]; a quota is met where excess and slack of the kept sum to at least 0.
        wanted: candidates to keep.

    Returns:
        int64 indices in rising order, and bool [Q].

    Example:
        >>> select_for_quotas(np.array([[-2], [-1], [2]]), np.array([0]), 2)
        (array([1, 2]), array([False]))
    """
    kept = np.arange(len(excess)) < wanted
    totals = excess[kept].sum(axis=0) + slack
    for _ in range(_MAX_ROUNDS):
        out, into = _find_swaps(excess, kept, totals)
        if not len(out):
            break
        kept[out], kept[into] = False, True
        totals = excess[kept].sum(axis=0) + slack
    return np.nonzero(kept)[0], totals < 0


def _find_swaps(
    excess: np.ndarray, kept: np.ndarray, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns who goes and who comes; tries all missed quotas together, then one at a time."""
    missed, nothing = np.nonzero(totals < 0)[0], np.zeros(0, np.int64)
    inside, outside = np.nonzero(kept)[0], np.nonzero(~kept)[0]
    if not len(missed) or not len(outside):
        return nothing, nothing
    for columns in (missed, *missed[:, None]):
        value = excess[:, columns].sum(axis=1)
        out = inside[np.argsort(value[inside], kind="stable")][: len(outside)]
        into = outside[np.argsort(-value[outside], kind="stable")][: len(out)]
        useful = value[into] > value[out]
        out, into = out[useful], into[useful]
        after = totals + np.cumsum(excess[into] - excess[out], axis=0)
        shortfall = np.minimum(after, 0).sum(axis=1)
        if len(out) and shortfall.max() > np.minimum(totals, 0).sum():
            swaps = int(np.argmax(shortfall)) + 1
            return out[:swaps], into[:swaps]
    return nothing, nothing
