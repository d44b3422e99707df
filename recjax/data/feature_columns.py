"""One column of a labelled table as rows and values of an embedding table.

Rows count from the first row of the feature's table, which stands for what is unknown. Called by
`features` only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.click_examples import hash_uniform
from recjax.data.feature_settings import FeatureConfig
from recjax.errors import UserError

UNKNOWN = 0  # row of a table for values that are rare, unknown or missing


@dataclasses.dataclass(frozen=True)
class EncodedRows:
    """Rows as a model reads them.

    Attributes:
        ids: int32 [N, S], rows of the one table.
        values: float32 [N, S], what each is multiplied by.
    """

    ids: np.ndarray
    values: np.ndarray


def split_values(
    feature: FeatureConfig, table: pa.Table
) -> tuple[pa.Array, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the values [n], their rows and places in it int [n], and values per row int [N]."""
    column = table.column(feature.source).combine_chunks().cast(pa.string())
    if feature.kind == "category":
        column = pc.if_else(pc.equal(column, ""), None, column)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        owner = np.flatnonzero(there)
        return column.drop_null(), owner, np.zeros(len(owner), np.int64), there.astype(np.int64)
    lists = pc.split_pattern(column.fill_null(""), feature.separator)
    owner = pc.list_parent_indices(lists).to_numpy()
    values = pc.utf8_trim_whitespace(lists.flatten())
    kept = np.flatnonzero(pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    owner, values = owner[kept], values.take(pa.array(kept))
    starts = np.searchsorted(owner, np.arange(len(table)))
    place = np.arange(len(owner)) - starts[owner]
    within = np.flatnonzero(place < feature.max_values)
    owner, place = owner[within], place[within]
    return values.take(pa.array(within)), owner, place, np.bincount(owner, minlength=len(table))


def hash_rows(feature: FeatureConfig, values: pa.Array) -> np.ndarray:
    """Returns rows int64 [n, num_hashes] of values, from 1 on."""
    encoded = values.dictionary_encode()
    digests = [
        int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), signed=True)
        for value in encoded.dictionary.to_pylist()
    ]
    number = np.array(digests, np.int64)[encoded.indices.to_numpy()]
    hashes = [hash_uniform(seed, number) for seed in range(feature.num_hashes)]
    return 1 + (np.stack(hashes, axis=1) % np.uint64(feature.hash_rows)).astype(np.int64)


def _read_number(feature: FeatureConfig, table: pa.Table) -> np.ndarray:
    """Returns the column, scaled, float64 [N]; NaN where it is missing."""
    column = table.column(feature.source).combine_chunks()
    try:
        if pa.types.is_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(column, ""), None, column)
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"config.prepare.features.{feature.name} is a number, but column "
            f"{feature.source!r} holds something else: {error}"
        ) from error
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    return np.sign(numbers) * np.log1p(np.abs(numbers)) if feature.scale == "log" else numbers


def fit_number(feature: FeatureConfig, train: pa.Table) -> dict[str, Any]:
    """Returns what encoding needs of training: {"edges"} of buckets, or {"mean", "scale"}.

    Raises:
        UserError: if the column is empty, or holds something else than numbers.
    """
    numbers = _read_number(feature, train)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        raise UserError(
            f"config.prepare.features.{feature.name}: column {feature.source!r} is empty in the "
            "training part"
        )
    if not feature.num_buckets:
        return {"mean": float(numbers.mean()), "scale": float(numbers.std()) or 1.0}
    shares = np.arange(1, feature.num_buckets) / feature.num_buckets
    return {"edges": np.unique(np.quantile(numbers, shares)).tolist()}


def encode_number(
    feature: FeatureConfig, fitted: Mapping[str, Any], table: pa.Table, first: int
) -> EncodedRows:
    """Returns ids and values [N, 1] of a number; `first` is the row for missing ones.

    Raises:
        UserError: if the column holds something else.
    """
    numbers = _read_number(feature, table)
    missing = np.isnan(numbers)
    if "edges" in fitted:
        rows = 1 + np.searchsorted(np.array(fitted["edges"]), numbers, side="right")
        values = np.ones(len(numbers))
    else:
        rows = np.ones(len(numbers), np.int64)
        values = (numbers - fitted["mean"]) / fitted["scale"]
    ids = first + np.where(missing, UNKNOWN, rows)
    values = np.where(missing, 1, values)
    return EncodedRows(ids.astype(np.int32)[:, None], values.astype(np.float32)[:, None])
