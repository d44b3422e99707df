"""Click examples out of drawn users: what was shown, what was taken, and how sure that is.

An impression is one event of a draw, taken, and other items that were not, with the events before
as its history. Which items those are is a setting. Labels can be smoothed by confidence: instead
of 1 and 0, an item's odds among the shown ones as the fitted HMM sees them. Draws have passed the
gate by then. Called by the expand stage; real impressions are `recjax.data.click_examples`'s.

Reference:
    Ding et al. (2019), "Reinforced negative sampling for recommendation with exposure data", for
    what was seen and not taken; Rendle and Freudenthaler (2014), "Improving pairwise learning for
    item recommendation from implicit feedback", for hard and popular negatives; Szegedy et al.
    (2016), "Rethinking the Inception architecture", Sec. 7, for smoothed labels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from recjax.expansion.generate.generator import GeneratorState
from recjax.expansion.generate.next_item import next_item_log_scores
from recjax.expansion.records import SEQUENCE_FIELDS, Record, batched

NEGATIVES = ("uniform", "popularity", "hard", "session")
_BATCH = 256  # impressions scored at once


@dataclass(frozen=True)
class ClickConfig:
    """Settings; names equal the keys of `config.expansion.clicks`.

    Attributes:
        per_user: impressions of each drawn user, at most one for each event behind the first.
        negatives: items shown beside the taken one.
        negative_kind: which: "uniform", any of the log; "popularity", by training events; "hard",
            by the generator's odds given the history; "session", what the user did less with in the
            same session (an action that `data.actions` lists before), uniform ones where there are
            too few. None but those of "session" is an item of the user.
        smoothing: weight of the odds in the labels, 0 to 1.

    Raises:
        ValueError: if a setting is unknown or out of range.
    """

    per_user: int
    negatives: int
    negative_kind: str
    smoothing: float

    def __post_init__(self) -> None:
        if self.negative_kind not in NEGATIVES:
            raise ValueError(
                f"clicks.negative_kind = {self.negative_kind!r} is unknown; known: "
                f"{', '.join(NEGATIVES)}"
            )
        for name, least in (("per_user", 0), ("negatives", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"clicks.{name} is {getattr(self, name)}; give at least {least}")
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"clicks.smoothing is {self.smoothing}; must be from 0 to 1")


@dataclass(frozen=True)
class ClickMaker:
    """Makes the examples of one arm and seed.

    Attributes:
        config: settings.
        generator: the fitted HMM of the seed.
        item_counts: int64 [V], training events of each item id.
        seed: of all choices; those of user b depend on (seed, b) alone.
        max_history: most events of a history.
    """

    config: ClickConfig
    generator: GeneratorState
    item_counts: np.ndarray
    seed: int
    max_history: int

    def make(self, draws: Iterable[Record]) -> Iterator[Record]:
        """Yields `click` examples: of each impression the taken item, then the others.

        Args:
            draws: synthetic users, as the gate let them pass.
        """
        for impressions in batched(self._impressions(draws), _BATCH):
            scores = next_item_log_scores(
                self.generator, impressions, _BATCH, len(self.item_counts), leave_out=False
            )
            for impression, odds in zip(impressions, scores, strict=True):
                yield from self._show(impression, odds)

    def _impressions(self, draws: Iterable[Record]) -> Iterator[Record]:
        """Yields histories, each with "taken", the record of which it is part, and a generator."""
        for number, draw in enumerate(draws):
            rng = np.random.default_rng([self.seed, number])
            later = 1 + rng.permutation(len(draw["items"]) - 1)[: self.config.per_user]
            for place in np.sort(later):
                rows = slice(max(0, place - self.max_history), place)
                history = {name: draw[name][rows] for name in SEQUENCE_FIELDS}
                facts = {"user": draw["user"], "source": draw["source"]}
                yield {**history, **facts, "draw": draw, "place": int(place), "rng": rng}

    def _show(self, impression: Record, odds: np.ndarray) -> Iterator[Record]:
        draw, place = impression["draw"], impression["place"]
        others = self._choose_others(impression, odds)
        shown = np.concatenate([draw["items"][place : place + 1], others])
        taken = np.arange(len(shown)) == 0
        share = softmax(odds[shown].astype(np.float64))
        labels = taken + self.config.smoothing * (share - taken)
        history = {name: impression[name] for name in ("user", "source", *SEQUENCE_FIELDS)}
        for item, label in zip(shown, labels, strict=True):
            yield {
                **history,
                "item": int(item),
                "time": int(draw["times"][place]),
                "position": 0,
                "label": np.float32(label),
                "propensity": np.float32(1.0),
                "weight": np.float32(1.0),
            }

    def _choose_others(self, impression: Record, odds: np.ndarray) -> np.ndarray:
        """Returns int64 [C], distinct items that were shown and not taken."""
        draw, place, rng = (impression[name] for name in ("draw", "place", "rng"))
        kind, number = self.config.negative_kind, self.config.negatives
        weight = self._weights(kind, odds)
        weight[draw["items"]] = 0
        chosen = rng.permutation(_passed_over(draw, place))[:number] if kind == "session" else []
        number = min(number - len(chosen), int(np.count_nonzero(weight)))
        drawn = rng.choice(len(weight), number, False, weight / weight.sum()) if number else []
        return np.concatenate([chosen, drawn]).astype(np.int64)

    def _weights(self, kind: str, odds: np.ndarray) -> np.ndarray:
        """Returns float64 [V], in what proportion items are drawn."""
        if kind == "hard":
            return np.where(self.item_counts > 0, softmax(odds.astype(np.float64)), 0.0)
        if kind == "popularity":
            return self.item_counts.astype(np.float64)
        return (self.item_counts > 0).astype(np.float64)


def _passed_over(draw: Record, place: int) -> np.ndarray:
    """Returns int64 [N], other items of the event's session that the user did less with."""
    in_session = draw["sessions"] == draw["sessions"][place]
    strongest: dict[int, int] = {}
    for item, action in zip(draw["items"][in_session], draw["actions"][in_session], strict=True):
        strongest[int(item)] = max(int(action), strongest.get(int(item), -1))
    limit = int(draw["actions"][place])
    taken = int(draw["items"][place])
    return np.array([i for i, a in strongest.items() if a < limit and i != taken], np.int64)
