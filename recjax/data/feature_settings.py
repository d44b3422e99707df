"""What a column of a labelled table means: settings of a feature, checked when made.

A category is one value: its row, or the first row of its table where it is rare or unknown. Tags
are several values in one text: the mean of their rows. A number is standardised and multiplies one
row, or has a row per quantile bucket with `num_buckets`. Called by `features` and the stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recjax.errors import UserError

KINDS = ("category", "tags", "number")
SCALES = ("none", "log")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """One feature; fields but the name equal the keys of `config.prepare.feature`.

    Attributes:
        name: of the feature.
        column: of the table; "" = the name.
        kind: one of `KINDS`.
        table: features of the same table share rows; "" = a table of its own.
        min_count: values that training has less often share the unknown row.
        hash_rows: above 0, values fall into so many rows by a hash and there is no vocabulary.
        num_hashes: rows that a hashed value gets, each by another hash, summed; two values then
            share all of them only rarely.
        max_values: tags: the first so many of a row count.
        separator: tags: between the values.
        scale: number: "log" takes sign(x) log(1 + |x|) first.
        num_buckets: number: above 0, so many quantile buckets of training.

    Raises:
        UserError: if a setting is unknown or out of range, naming it.

    Reference:
        Svenstrup, Hansen and Winther (2017), "Hash Embeddings", for several hashes.
    """

    name: str
    column: str
    kind: str
    table: str
    min_count: int
    hash_rows: int
    num_hashes: int
    max_values: int
    separator: str
    scale: str
    num_buckets: int

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("scale", SCALES)):
            if getattr(self, name) not in known:
                self._refuse(name, f"give one of: {', '.join(known)}")
        for name, least in (("min_count", 1), ("hash_rows", 0), ("num_hashes", 1),
                            ("max_values", 1), ("num_buckets", 0)):  # fmt: skip
            if getattr(self, name) < least:
                self._refuse(name, f"give at least {least}")
        if self.kind == "tags" and not self.separator:
            self._refuse("separator", "give the text that stands between the values")
        if self.kind == "number" and self.table:
            self._refuse("table", "numbers have rows of their own")

    @property
    def source(self) -> str:
        """The column that the feature is read from."""
        return self.column or self.name

    @property
    def table_name(self) -> str:
        """The table that the feature's rows stand in."""
        return self.table or self.name

    @property
    def num_slots(self) -> int:
        """Slots of the feature."""
        values = self.max_values if self.kind == "tags" else 1
        return values * (self.num_hashes if self.hash_rows else 1)

    @property
    def is_weighted(self) -> bool:
        """Whether a row of it may be multiplied by something else than 1."""
        return self.kind == "tags" or (self.kind == "number" and not self.num_buckets)

    def _refuse(self, key: str, wanted: str) -> None:
        value = getattr(self, key)
        raise UserError(f"config.prepare.features.{self.name}.{key} = {value!r}; {wanted}")


def make_features(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> list[FeatureConfig]:
    """Returns the features of `config.prepare.features`, each over the defaults.

    Args:
        defaults: every key of a feature.
        own: name -> the keys that are its own.

    Raises:
        UserError: if a key is unknown, or a setting out of range.
    """
    made = []
    for name, settings in own.items():
        unknown = set(settings) - set(defaults)
        if unknown:
            raise UserError(
                f"config.prepare.features.{name}.{min(unknown)} is unknown; a feature has: "
                f"{', '.join(defaults)}"
            )
        made.append(FeatureConfig(name=name, **{**dict(defaults), **dict(settings)}))
    return made
