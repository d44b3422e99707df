"""Declared features of a labelled table: from its columns to rows of one embedding table.

A feature has one or more slots; a slot is a row id of the one embedding table and a value that the
row is multiplied by. The schema is fitted on the training part and saved beside it; every part is
encoded by it, and so is what is scored later. What a feature can be is in `feature_settings`, how a
column is read in `feature_columns`. Called by `prepare_rows`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.feature_columns import (
    UNKNOWN,
    EncodedRows,
    encode_number,
    fit_number,
    hash_rows,
    split_values,
)
from recjax.data.feature_settings import FeatureConfig
from recjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class FeatureSchema:
    """Features with all that was learned of the training part.

    Attributes:
        features: in the order of their slots.
        vocabularies: table -> values of its rows from 1 on; none for hashed tables and numbers.
        numbers: feature -> {"edges"} of its buckets, or {"mean", "scale"}.
    """

    features: tuple[FeatureConfig, ...]
    vocabularies: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Mapping[str, Any]]

    @classmethod
    def fit(cls, features: Sequence[FeatureConfig], train: pa.Table) -> FeatureSchema:
        """Learns vocabularies, edges and scales from the training part.

        Raises:
            UserError: if there is no feature, features that share a table disagree, or a number
                column holds something else.
        """
        if not features:
            raise UserError("config.prepare.features is empty; name at least one feature")
        by_table: dict[str, list[FeatureConfig]] = {}
        for feature in features:
            if feature.kind != "number":
                by_table.setdefault(feature.table_name, []).append(feature)
        for name, sharing in by_table.items():
            _check_sharing(name, sharing)
        vocabularies = {
            name: _count_values(sharing, train)
            for name, sharing in by_table.items()
            if not sharing[0].hash_rows
        }
        numbers = {f.name: fit_number(f, train) for f in features if f.kind == "number"}
        return cls(tuple(features), vocabularies, numbers)

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of each feature."""
        return tuple(feature.num_slots for feature in self.features)

    @property
    def num_rows(self) -> int:
        """Rows of the one table."""
        return sum(self._table_rows().values())

    def first_row(self, feature: FeatureConfig) -> int:
        """Returns where the feature's table begins; its unknown row."""
        tables = self._table_rows()
        return sum(list(tables.values())[: list(tables).index(feature.table_name)])

    def encode(self, table: pa.Table) -> EncodedRows:
        """Turns rows into ids and values [N, S].

        Raises:
            UserError: if a number column holds something else.
        """
        parts = [self._encode(feature, table, self.first_row(feature)) for feature in self.features]
        return EncodedRows(
            np.concatenate([part.ids for part in parts], axis=1),
            np.concatenate([part.values for part in parts], axis=1),
        )

    def save(self, path: Path) -> None:
        """Writes the schema as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> FeatureSchema:
        """Reads what `save` wrote."""
        found = json.loads(path.read_text())
        features = tuple(FeatureConfig(**settings) for settings in found.pop("features"))
        return cls(features, **found)

    def _table_rows(self) -> dict[str, int]:
        """Rows of each table, in the order in which they lie."""
        return {feature.table_name: self._rows_of(feature) for feature in self.features}

    def _rows_of(self, feature: FeatureConfig) -> int:
        if feature.kind == "number":
            edges = self.numbers[feature.name].get("edges")
            return 2 if edges is None else 2 + len(edges)  # missing; the factor, or the buckets
        return 1 + (feature.hash_rows or len(self.vocabularies[feature.table_name]))

    def _encode(self, feature: FeatureConfig, table: pa.Table, first: int) -> EncodedRows:
        if feature.kind == "number":
            return encode_number(feature, self.numbers[feature.name], table, first)
        values, owner, place, count = split_values(feature, table)
        if feature.hash_rows:
            rows = hash_rows(feature, values)
        else:
            known = pa.array(self.vocabularies[feature.table_name], pa.string())
            found = pc.index_in(values, value_set=known)
            rows = 1 + found.fill_null(UNKNOWN - 1).to_numpy(zero_copy_only=False)[:, None]
        size, width = len(table), rows.shape[1]
        ids = np.full((size, feature.num_slots // width, width), first, np.int32)
        factors = np.zeros(ids.shape, np.float32)
        ids[owner, place] = first + rows
        factors[owner, place] = 1 / count[owner, None]
        if feature.kind == "category":
            factors[:] = 1  # a missing value is the unknown row, not nothing
        return EncodedRows(ids.reshape(size, -1), factors.reshape(size, -1))


def _check_sharing(name: str, sharing: Sequence[FeatureConfig]) -> None:
    for key in ("min_count", "hash_rows", "num_hashes"):
        values = {getattr(feature, key) for feature in sharing}
        if len(values) > 1:
            raise UserError(
                f"config.prepare.features: {', '.join(f.name for f in sharing)} share the table "
                f"{name!r}, so {key} must be the same for all; it is {sorted(values)}"
            )


def _count_values(sharing: Sequence[FeatureConfig], train: pa.Table) -> list[str]:
    """Values that training has often enough, the most frequent first."""
    values = pa.chunked_array([split_values(feature, train)[0] for feature in sharing])
    counts = pc.value_counts(values.combine_chunks())
    names = counts.field("values").to_pylist()
    number = counts.field("counts").to_numpy()
    order = sorted(range(len(names)), key=lambda i: (-number[i], names[i]))
    return [names[i] for i in order if number[i] >= sharing[0].min_count]
