"""Counts copies in a finished synthetic log, whatever the gate has done before.

Not here: removing them (`gate.filters`). Unlike the gate, nobody's own user is left out: a short
user's continuation is not similar enough to count, a copy under its own name is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.gate.duplicates import NONE, ExactIndex
from recjax.expansion.gate.hashing import hash_bags, hash_sequences
from recjax.expansion.gate.reference import RealReference, UserIndex, compute_signatures
from recjax.expansion.gate.settings import GateConfig
from recjax.expansion.records import NO_USER, Record, lengths_of, pad_field


@dataclass
class CopyCounts:
    """Synthetic users by what they copy; the first that fits counts.

    Attributes:
        of_real: equal to a real user.
        of_draw: equal to an earlier synthetic user.
        near_real: nearly equal to a real user.
        near_draw: nearly equal to an earlier synthetic user.
        reordered_real: none of the above, yet with exactly a real user's items (at least 4).
    """

    of_real: int = 0
    of_draw: int = 0
    near_real: int = 0
    near_draw: int = 0
    reordered_real: int = 0


class CopyWatcher:
    """Streams over synthetic users and counts copies; memory as stated in `gate.duplicates`."""

    def __init__(self, reference: RealReference, config: GateConfig) -> None:
        self.counts = CopyCounts()
        self._reference, self._config = reference, config
        self._drawn, self._bags = UserIndex.empty(config), ExactIndex()

    def add(self, records: Sequence[Record]) -> None:
        """Counts the copies among more synthetic users."""
        items, lengths = pad_field(records, "items"), lengths_of(records)
        hashes = hash_sequences(items, lengths)
        fresh = np.ones(len(records), bool)
        fresh = self._count(fresh, "of_real", self._reference.users.exact.contains(hashes))
        first = np.zeros(len(records), bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        fresh = self._count(fresh, "of_draw", ~first | self._drawn.exact.contains(hashes))
        self._drawn.exact.add(hashes)
        fresh = self._count_near(fresh, items, lengths)
        bags = hash_bags(items, lengths)
        reordered = self._reference.bags.contains(bags) & (lengths >= 4)
        self._count(fresh, "reordered_real", reordered)

    def _count_near(self, fresh: np.ndarray, items: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        if self._drawn.near is None or self._reference.users.near is None:
            return fresh
        minhashes = compute_signatures(items, lengths, self._config)
        originals = self._reference.users.near.find_originals(minhashes)
        fresh = self._count(fresh, "near_real", originals != NONE)
        entries = self._drawn.near.size + np.arange(len(items))
        self._drawn.near.add(minhashes, np.full(len(items), NO_USER, np.int32))
        originals = self._drawn.near.find_originals(minhashes, before=entries)
        return self._count(fresh, "near_draw", originals != NONE)

    def _count(self, fresh: np.ndarray, name: str, found: np.ndarray) -> np.ndarray:
        hits = fresh & found
        setattr(self.counts, name, getattr(self.counts, name) + int(hits.sum()))
        return fresh & ~hits
