"""Strategy `similar_walk`: whole new users who walk from item to similar item.

What is similar is `config.expansion.similarity.by`: a walk over `graph` is one over the knowledge
graph (item, what it is linked to, another item linked to it), one over `vectors` follows titles or
images of the features stage, one over `co_visit` the log itself. Now and then the walk goes on from
an earlier item of the user, so that it stays about what it began with. First items are those of
real users, as are lengths, actions and times (`habits`).

Reference:
    Tong, Faloutsos and Pan (2006), "Fast random walk with restart and its applications"; Wang et
    al. (2019), "KGAT: Knowledge graph attention network", Sec. 2, for links as paths of interest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from recjax.expansion.generate.counted import count_first_items, draw_counted, sum_before
from recjax.expansion.generate.habits import Habits, fit_habits
from recjax.expansion.records import Record
from recjax.expansion.similarity import SimilarItems, get_similar
from recjax.expansion.strategy import ExpansionData, draw_uniforms

_RETURN_SHARE = 0.2  # of the steps, which start from any earlier item instead of the last


@dataclass(frozen=True)
class WalkState:
    """What draws need.

    Attributes:
        similar: lists of similar items.
        begins: int64 [largest first item + 2], users whose first item has an id below this one.
        habits: of the real users.
    """

    similar: SimilarItems
    begins: np.ndarray
    habits: Habits

    def step(self, items: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns int64 [B], the next item of each walk.

        An item that nothing resembles is followed by the first item of some real user.

        Args:
            items: int64 [B, t], the walks so far.
            uniforms: float64 [B, 3] in [0, 1).
        """
        back, place, choice = uniforms.T
        length = items.shape[1]
        at = np.where(back < _RETURN_SHARE, (place * length).astype(np.int64), length - 1)
        origin = items[np.arange(len(items)), at]
        drawn = draw_counted(self.begins, choice)
        known = self.similar.has_any(origin)
        drawn[known] = self.similar.draw(origin[known], choice[known])
        return drawn


class SimilarWalk:
    """Draws whole users by walks over lists of similar items."""

    name = "similar_walk"
    judged_by: tuple[str, ...] = ("items",)
    needs: tuple[str, ...] = ("similar",)

    def fit(self, data: ExpansionData, seed: int) -> WalkState:
        """Returns the lists and the log's habits; the same for every seed."""
        similar = get_similar(data, self.name)
        habits = fit_habits(data.source, data.max_len, data.session_gap_seconds)
        return WalkState(similar, sum_before(count_first_items(data.source)), habits)

    def draw(self, key: jax.Array, state: WalkState, n: int, first_row: int) -> Sequence[Record]:
        """Returns n users; see `Strategy.draw`."""
        outlines = state.habits.draw(jax.random.fold_in(key, 1), first_row, n)
        length = state.habits.max_len
        uniforms = draw_uniforms(jax.random.fold_in(key, 0), first_row, n, 3 * length)
        items = draw_counted(state.begins, uniforms[:, :1])
        for place in range(1, length):
            numbers = uniforms[:, 3 * place : 3 * place + 3]
            items = np.column_stack([items, state.step(items, numbers)])
        return outlines.fill_in(items)
