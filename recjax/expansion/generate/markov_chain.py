"""Strategy `markov_chain`: whole new users from item to next item, the plain rival of the HMM.

The next item depends on the last one alone, by counts of neighbouring events; where the last item
was seldom followed by the same, the draw backs off to popularity. Lengths, actions and times are
the log's own (`habits`).

Reference:
    Witten and Bell (1991), "The zero-frequency problem": method C, p(j | i) =
    (count(i, j) + distinct(i) p(j)) / (count(i) + distinct(i)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from scipy import sparse

from recjax.expansion.generate.counted import (
    count_first_items,
    draw_counted,
    find_place,
    sum_before,
)
from recjax.expansion.generate.habits import Habits, fit_habits
from recjax.expansion.records import Record, RecordSource, batched, count_items
from recjax.expansion.strategy import ExpansionData, draw_uniforms

_BATCH = 65_536  # users counted at once


@dataclass(frozen=True)
class ItemChain:
    """Counts of items, of those that users begin with, and of neighbours.

    Attributes:
        begins: int64 [at most V + 1], users whose first item has an id below this one.
        occurs: int64 [V + 1], events whose item has an id below this one.
        follows: CSR int64 [V, V], how often an item came right after another.
        follows_before: int64 [nnz + 1], sum of all counts before an entry of `follows`.
    """

    begins: np.ndarray
    occurs: np.ndarray
    follows: sparse.csr_array
    follows_before: np.ndarray

    def draw_first(self, uniforms: np.ndarray) -> np.ndarray:
        """Returns int64 [B], first items for float64 [B] in [0, 1)."""
        return draw_counted(self.begins, uniforms)

    def draw_next(self, items: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns int64 [B], items after items int64 [B] for float64 [B] in [0, 1)."""
        left, right = self.follows.indptr[items], self.follows.indptr[items + 1]
        base = self.follows_before[left]
        counted, distinct = self.follows_before[right] - base, right - left
        place = uniforms * (counted + distinct)
        entry = find_place(self.follows_before, base + np.floor(place).astype(np.int64))
        share = np.where(distinct > 0, (place - counted) / np.maximum(distinct, 1), uniforms)
        popular = draw_counted(self.occurs, np.maximum(share, 0.0))
        seen = place < counted
        return np.where(seen, self.follows.indices[np.where(seen, entry, 0)], popular)


def fit_chain(source: RecordSource) -> ItemChain:
    """Returns the counts of the real users, after three passes over them.

    Args:
        source: training records, at least two events one after another.
    """
    occurs = count_items(source)
    num_ids = len(occurs)
    follows = sparse.csr_array((num_ids, num_ids), dtype=np.int64)
    for batch in batched(source, _BATCH):
        users = [record["items"] for record in batch if len(record["items"])]
        before = np.concatenate([items[:-1] for items in users])
        after = np.concatenate([items[1:] for items in users])
        ones = np.ones(len(before), np.int64)
        follows += sparse.csr_array((ones, (before, after)), shape=(num_ids, num_ids))
    begins = sum_before(count_first_items(source))
    return ItemChain(begins, sum_before(occurs), follows, sum_before(follows.data))


class MarkovChain:
    """Draws whole users from a first-order chain of items."""

    name = "markov_chain"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ()

    def fit(self, data: ExpansionData, seed: int) -> tuple[ItemChain, Habits]:
        """Returns the counts; the same for every seed."""
        habits = fit_habits(data.source, data.max_len, data.session_gap_seconds)
        return fit_chain(data.source), habits

    def draw(
        self, key: jax.Array, state: tuple[ItemChain, Habits], n: int, first_row: int
    ) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        chain, habits = state
        outlines = habits.draw(jax.random.fold_in(key, 1), first_row, n)
        uniforms = draw_uniforms(jax.random.fold_in(key, 0), first_row, n, habits.max_len)
        items = [chain.draw_first(uniforms[:, 0])]
        for numbers in uniforms[:, 1:].T:
            items.append(chain.draw_next(items[-1], numbers))
        return outlines.fill_in(np.stack(items, 1))
