"""A labelled table becomes numbered rows: features fitted on training, three folders of arrays.

    features.json    the schema; what training, evaluation and export read alike
    profile.json     rows, positives and unknown values of every part
    rows/PART/       ids, values, label (or outcomes), user, item: one .npy each, mapped into
                     memory when read

Called by the prepare stage.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data.feature_columns import EncodedRows
from recjax.data.feature_settings import FeatureConfig
from recjax.data.features import FeatureSchema
from recjax.data.row_tables import PARTS, TableConfig, read_labels, read_parts
from recjax.errors import UserError


@dataclass(frozen=True)
class RowSource:
    """The numbered rows of one part; arrays are read as they are needed.

    Attributes:
        folder: of the part.
        several: whether `label` is every outcome of a row.
    """

    folder: Path
    several: bool = False

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def ids(self) -> np.ndarray:
        """Rows of the embedding table, int32 [N, S]."""
        return self._array("ids")

    @cached_property
    def values(self) -> np.ndarray | None:
        """Factors of the rows, float32 [N, S]; None where all are 1."""
        return self._array("values") if (self.folder / "values.npy").exists() else None

    @cached_property
    def label(self) -> np.ndarray:
        """The outcome of each row, float32 [N]; of `several`, outcomes float32 [N, K]."""
        return self._array("outcomes" if self.several else "label")

    @cached_property
    def user(self) -> np.ndarray:
        """Numbers of users, int64 [N]; the row's own number where users are unknown."""
        return self._array("user")

    @cached_property
    def item(self) -> np.ndarray:
        """Numbers of items, int64 [N]; all 0 where items are unknown."""
        return self._array("item")

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            raise UserError(f"{path} is missing: run the prepare stage first")
        return np.load(path, mmap_mode="r")


def prepare_rows(
    table: TableConfig, features: Sequence[FeatureConfig], folder: Path
) -> dict[str, Any]:
    """Reads, checks, splits and numbers a labelled table.

    Args:
        table: where it is.
        features: what its columns mean.
        folder: prepared/.

    Returns:
        The content of profile.json.

    Raises:
        UserError: for every kind of bad input.
    """
    parts = read_parts(table, {feature.source for feature in features})
    schema = FeatureSchema.fit(features, parts["train"])
    schema.save(folder / "features.json")
    encoded = {part: schema.encode(rows) for part, rows in parts.items()}
    plain = all((rows.values == 1).all() for rows in encoded.values())
    owners = {name: _number(parts, getattr(table, name)) for name in ("user", "item")}
    outcomes = {part: _outcomes(rows, table) for part, rows in parts.items()}
    for part in PARTS:
        arrays = {
            "ids": encoded[part].ids,
            "label": outcomes[part][:, 0],
            "user": owners["user"][part],
            "item": owners["item"][part] if table.item else np.zeros(len(parts[part]), np.int64),
        }
        arrays |= {} if plain else {"values": encoded[part].values}
        arrays |= {"outcomes": outcomes[part]} if table.also else {}
        _write(folder / "rows" / part, arrays)
    profile = _profile(table, schema, outcomes, encoded)
    (folder / "profile.json").write_text(json.dumps(profile, indent=1) + "\n")
    return profile


def _number(parts: dict[str, pa.Table], column: str) -> dict[str, np.ndarray]:
    """Numbers the values of a column over all parts; without one every row is its own."""
    sizes = [len(parts[part]) for part in PARTS]
    if column:
        texts = [parts[part].column(column).cast(pa.string()) for part in PARTS]
        whole = pa.chunked_array([chunk for text in texts for chunk in text.chunks])
        codes = whole.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    else:
        codes = np.arange(sum(sizes))
    split = np.split(codes.astype(np.int64), np.cumsum(sizes)[:-1])
    return dict(zip(PARTS, split, strict=True))


def _outcomes(rows: pa.Table, table: TableConfig) -> np.ndarray:
    """Returns every outcome of every row, float32 [N, K]."""
    return np.stack([read_labels(rows, outcome) for outcome in table.outcomes], axis=1)


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _profile(
    table: TableConfig,
    schema: FeatureSchema,
    outcomes: dict[str, np.ndarray],
    encoded: dict[str, EncodedRows],
) -> dict[str, Any]:
    """Returns counts of the parts, and of every feature the share that training did not know."""
    first = np.cumsum([0, *schema.slots])[:-1]
    unknown = [schema.first_row(feature) for feature in schema.features]
    return {
        "split": table.method if table.split_by_rule else table.dataset or "files",
        "table_rows": schema.num_rows,
        "outcomes": [outcome.name for outcome in table.outcomes],
        "parts": {
            part: {
                "rows": len(labels),
                "positives": int(labels[:, 0].sum()),
                "unknown": {
                    feature.name: float((encoded[part].ids[:, slot] == row).mean())
                    for feature, slot, row in zip(schema.features, first, unknown, strict=True)
                },
            }
            for part, labels in outcomes.items()
        },
    }
