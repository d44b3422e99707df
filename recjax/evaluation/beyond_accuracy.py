"""What the lists look like beyond their hits: coverage, concentration, diversity, novelty, bias.

Lives here: statistics of top-n lists, added up batch by batch. Not here: hits and ranks
(`ranking`). Called by the evaluate stage, once per arm and seed. numpy only.
"""

import numpy as np

from recjax.data.vocabulary import NUM_SPECIALS


def gini(counts: np.ndarray) -> float:
    """Returns the Gini coefficient of non-negative counts: 0 all equal, near 1 all on one.

    Args:
        counts: [N], at least one entry; all zeros give 0.

    Example:
        >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 4]))
        (0.0, 0.75)
    """
    ordered = np.sort(np.asarray(counts, np.float64))
    total = ordered.sum()
    if total <= 0:
        return 0.0
    place = np.arange(1, len(ordered) + 1)
    return float((2 * place - len(ordered) - 1) @ ordered / (len(ordered) * total))


class ListStatistics:
    """Adds up top-n lists of users and tells what they are like as a whole.

    Example:
        >>> stats = ListStatistics(np.array([0] * 5 + [3, 1]), np.array([0] * 5 + [1, 2]))
        >>> stats.update(np.array([[5, 6], [5, 6]]))
        >>> stats.result()["coverage_at_2"]
        1.0
    """

    def __init__(self, train_counts: np.ndarray, category_ids: np.ndarray) -> None:
        """Takes the facts of the items.

        Args:
            train_counts: int [V], training events of each item id.
            category_ids: int [V], 0 = none; such items are left out of diversity.
        """
        self.counts = np.asarray(train_counts, np.float64)
        self.categories = np.asarray(category_ids)
        events = max(self.counts.sum(), 1.0)
        # add one: an item never seen in training is novel, not infinitely so
        self.surprise = -np.log2((self.counts + 1) / (events + len(self.counts)))
        # what a training event looks at on average, so that 1 = as popular as real behaviour
        self.typical = float((self.counts**2).sum() / events)
        self.shown = np.zeros(len(self.counts), np.int64)
        self.sums = {"diversity": 0.0, "novelty": 0.0, "popularity_bias": 0.0}
        self.weights = dict.fromkeys(self.sums, 0)
        self.length = 0

    def update(self, lists: np.ndarray) -> None:
        """Adds the lists of some users.

        Args:
            lists: int [B, n] item ids, 0 (or any special) = no recommendation in this place.
        """
        real = lists >= NUM_SPECIALS
        self.length = lists.shape[1]
        self.shown += np.bincount(lists[real], minlength=len(self.shown))
        self._add("novelty", self.surprise[lists[real]])
        self._add("popularity_bias", self.counts[lists[real]] / max(self.typical, 1e-12))
        category = np.where(real, self.categories[lists], 0)
        first, second = np.triu_indices(lists.shape[1], k=1)
        known = (category[:, first] > 0) & (category[:, second] > 0)
        self._add("diversity", (category[:, first] != category[:, second])[known])

    def result(self) -> dict[str, float]:
        """Returns the statistics of all lists so far.

        Returns:
            {"coverage_at_n": share of the catalogue shown to anyone, "gini_at_n": concentration of
            the shown items, "diversity_at_n": share of pairs within a list with different
            categories, "novelty_at_n": mean self-information of a shown item (bits),
            "popularity_bias_at_n": mean training count of a shown item over that of a training
            event}. A statistic without data (no categories known) is left out.
        """
        shown = self.shown[NUM_SPECIALS:]
        values = {"coverage": float((shown > 0).mean()), "gini": gini(shown)}
        values |= {name: self.sums[name] / n for name, n in self.weights.items() if n}
        return {f"{name}_at_{self.length}": value for name, value in values.items()}

    def _add(self, name: str, values: np.ndarray) -> None:
        self.sums[name] += float(values.sum())
        self.weights[name] += values.size
