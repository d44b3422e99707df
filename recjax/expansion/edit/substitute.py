"""Strategy `substitute`: some items of a real user replaced by similar ones.

Reference:
    Liu et al. (2021), "Contrastive self-supervised sequential recommendation with robust
    augmentation" (CoSeRec), item substitution.
"""

from functools import partial

import numpy as np

from recjax.expansion.edit.settings import get_settings
from recjax.expansion.edit.user_edits import (
    Editor,
    UserEdits,
    choose_places,
    count_share,
    edit_recent,
)
from recjax.expansion.records import Record
from recjax.expansion.similarity import SimilarItems, get_similar
from recjax.expansion.strategy import ExpansionData


class Substitute(Editor):
    """Draws users with similar items, the more similar the likelier; actions and clock stay."""

    name = "substitute"
    needs: tuple[str, ...] = ("edits", "similar")

    def fit(self, data: ExpansionData, seed: int) -> UserEdits:
        """Returns the users with an item that has similar ones."""
        similar, share = (
            get_similar(data, self.name),
            get_settings(data, self.name).substitute_share,
        )
        return edit_recent(
            data,
            lambda record: bool(similar.has_any(record["items"]).any()),
            partial(_substitute, share=share, similar=similar),
            num_uniforms=2 * data.max_len,
        )


def _substitute(
    record: Record, uniforms: np.ndarray, *, share: float, similar: SimilarItems
) -> Record:
    items = record["items"]
    order, choice = uniforms.reshape(2, -1)
    open_places = np.flatnonzero(similar.has_any(items))
    number = count_share(share, len(items), 1, len(open_places))
    places = open_places[choose_places(order[open_places], number)]
    items[places] = similar.draw(items[places], choice[places])
    return record
