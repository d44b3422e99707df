"""What is known of items beside their history, and which of it carries a generator's items.

Not here: the distributions themselves (`recjax.hmm`). Called by `generator.fit_generator`.
"""

import dataclasses
from typing import TypedDict

import numpy as np

from recjax import hmm

EMISSIONS = ("auto", "plain", "category", "category_price", "content")


class Emission(TypedDict):
    """Keyword arguments of the fits of `recjax.hmm`; at most one is given."""

    item_category: np.ndarray | None
    item_features: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class ItemFacts:
    """Attributes by item id, specials included.

    Attributes:
        category: int [V], 0 = none.
        price_band: int [V], 0 = none.
        vectors: float32 [V, F] of the features stage, or None.
    """

    category: np.ndarray
    price_band: np.ndarray
    vectors: np.ndarray | None = None

    def emission(self, kind: str, item_ids: np.ndarray) -> Emission:
        """Returns what carries the items int [N] of a generator.

        Args:
            kind: "plain" (a probability per state and item), "category" (the state chooses the
                category), "category_price" (category and price band together), "content" (what the
                item vectors say), or "auto": "category" where items have some, else "plain".
            item_ids: the items, in the order of their indices.

        Raises:
            ValueError: if the kind is unknown, or the catalogue lacks what it needs.
        """
        if kind not in EMISSIONS:
            raise ValueError(f"hmm.items = {kind!r} is unknown; known: {', '.join(EMISSIONS)}")
        category, band = self.category[item_ids], self.price_band[item_ids]
        if kind == "auto":
            kind = "category" if category.any() else "plain"
        if kind == "plain":
            return {"item_category": None, "item_features": None}
        if kind == "content":
            if self.vectors is None:
                raise ValueError(
                    "hmm.items = 'content' needs item vectors: set config.features.encoder (e.g. "
                    "'tfidf') and run the features stage"
                )
            return {"item_category": None, "item_features": self.vectors[item_ids]}
        if not category.any():
            raise ValueError(
                f"hmm.items = {kind!r} needs item categories, and the catalogue has none; "
                "'plain' does without"
            )
        if kind == "category":
            band = np.zeros_like(band)
        return {"item_category": hmm.item_cells(category, band), "item_features": None}
