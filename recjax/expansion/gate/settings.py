"""What the gate can be told, and what it reports back.

Not here: the filters. Field names equal the keys of `config.expansion.gate`.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

INVALID = "invalid"  # ids, actions, marks or shapes that no synthetic record may have
TOO_SHORT = "too_short"
COPY_OF_REAL = "copy_of_real"
COPY_OF_DRAW = "copy_of_draw"
NEAR_REAL = "near_copy_of_real"
NEAR_DRAW = "near_copy_of_draw"
MERGED = "merged_into_draw"  # its weight went to the draw that it copies
TOO_UNLIKELY = "below_likelihood_band"
TOO_LIKELY = "above_likelihood_band"
TOLD_APART = "told_from_real"  # by the discriminator
LITTLE_FOR_QUOTAS = "too_little_for_quotas"  # gave way to a draw that serves them better
SURPLUS = "not_needed"


@dataclass(frozen=True)
class GateConfig:
    """Settings of the gate.

    Attributes:
        drop_exact_duplicates: drop draws equal to a real user or to an earlier draw.
        near_duplicate_jaccard: similarity of shingles from which a draw is a copy; 0 = off.
        merge_similar: a copy of an earlier draw of its block adds its weight to that draw.
        num_hashes: MinHash functions; the standard error of a similarity is < 0.5 / sqrt(this).
        shingle_len: events per shingle.
        likelihood_band: quantiles of held-out real users' log-likelihood per event.
        discriminator_quantile: draws that look less real than this quantile of real users are
            dropped; 0 = off.
        rare_item_share: share of the catalogue that counts as rare (fewest training events).
        rare_item_quota: least share of rare items among the kept events; 0 = off.
        category_floor: every category gets at least this much of its real share of events; 0 = off.
        category_cap: and at most this many times that share; 0 = off.
        cross_category_quota: the kept users who touch two categories or more are at least this many
            times the real share of such users; 0 = off.
        min_len: least events of a kept record.
        max_draw_factor: at most this many draws for each wanted one.
    """

    drop_exact_duplicates: bool
    near_duplicate_jaccard: float
    merge_similar: bool
    num_hashes: int
    shingle_len: int
    likelihood_band: tuple[float, float]
    discriminator_quantile: float
    rare_item_share: float
    rare_item_quota: float
    category_floor: float
    category_cap: float
    cross_category_quota: float
    min_len: int
    max_draw_factor: float

    def __post_init__(self) -> None:
        low, high = self.likelihood_band
        problems = {
            "near_duplicate_jaccard": (0 <= self.near_duplicate_jaccard <= 1, "in [0, 1]"),
            "merge_similar": (
                not self.merge_similar or self.near_duplicate_jaccard > 0,
                "False where near_duplicate_jaccard is 0",
            ),
            "num_hashes": (self.num_hashes >= 1, "at least 1"),
            "shingle_len": (self.shingle_len >= 1, "at least 1"),
            "likelihood_band": (0 <= low < high <= 1, "two quantiles, low < high"),
            "discriminator_quantile": (0 <= self.discriminator_quantile < 1, "in [0, 1)"),
            "rare_item_share": (0 <= self.rare_item_share <= 1, "in [0, 1]"),
            "rare_item_quota": (0 <= self.rare_item_quota <= 1, "in [0, 1]"),
            "category_floor": (0 <= self.category_floor <= 1, "in [0, 1]"),
            "category_cap": (self.category_cap == 0 or self.category_cap >= 1, "0 or at least 1"),
            "cross_category_quota": (self.cross_category_quota >= 0, "at least 0"),
            "min_len": (self.min_len >= 1, "at least 1"),
            "max_draw_factor": (self.max_draw_factor >= 1, "at least 1"),
        }
        for name, (fine, right) in problems.items():
            if not fine:
                raise ValueError(
                    f"expansion.gate.{name} is {getattr(self, name)!r}; must be {right}"
                )

    def validity_only(self) -> "GateConfig":
        """Returns settings that judge validity alone, for control arms that copy by design."""
        return replace(
            self,
            drop_exact_duplicates=False,
            near_duplicate_jaccard=0.0,
            merge_similar=False,
            rare_item_quota=0.0,
            category_floor=0.0,
            category_cap=0.0,
            cross_category_quota=0.0,
            min_len=1,
        )


@dataclass
class GateCounts:
    """What came in, what went out and why; complete once the records have been consumed.

    Attributes:
        wanted: records asked for.
        drawn: records drawn; always kept + sum of removed.
        kept: records passed on.
        removed: reason -> records.
        events: events of the kept records.
        rare_events: those of them with a rare item.
        quotas_missed: quota -> blocks of kept records that could not reach it.
    """

    wanted: int
    drawn: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    events: int = 0
    rare_events: int = 0
    quotas_missed: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as plain JSON values, with the share of rare items."""
        return {
            "wanted": self.wanted,
            "drawn": self.drawn,
            "kept": self.kept,
            "removed": dict(sorted(self.removed.items())),
            "events": self.events,
            "rare_item_share": round(self.rare_events / max(self.events, 1), 6),
            "quotas_missed": dict(sorted(self.quotas_missed.items())),
            "complete": self.kept >= self.wanted,
        }
