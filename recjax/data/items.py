"""The item table: attributes of every item id, written once by prepare and read by everyone.

`prepared/items.parquet` has one row per id, specials first. Attributes are small integers with 0
for "none". Price bands come from items sold in the training part only; ids from `vocabulary.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recjax.data.vocabulary import NUM_SPECIALS, Vocabulary
from recjax.errors import UserError

SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("price", pa.float32()),
        ("category_id", pa.int32()),
        ("brand_id", pa.int32()),
        ("price_band", pa.int32()),
        ("train_count", pa.int32()),
    ]
)


@dataclass(frozen=True)
class ItemTable:
    """Attributes by item id; row r of every array is item id r.

    Attributes:
        item_ids: object [V], strings.
        titles: object [V], "" where unknown.
        categories: object [V], paths, "" where unknown.
        brands: object [V].
        prices: float32 [V], NaN where unknown.
        category_id: int32 [V], 0 = none.
        brand_id: int32 [V], 0 = none.
        price_band: int32 [V], 0 = none, 1 = cheapest.
        train_count: int32 [V], events in the training part.
    """

    item_ids: np.ndarray
    titles: np.ndarray
    categories: np.ndarray
    brands: np.ndarray
    prices: np.ndarray
    category_id: np.ndarray
    brand_id: np.ndarray
    price_band: np.ndarray
    train_count: np.ndarray

    @property
    def vocab_size(self) -> int:
        """Ids in use, specials included."""
        return len(self.item_ids)

    @property
    def num_items(self) -> int:
        """Items, specials not counted."""
        return self.vocab_size - NUM_SPECIALS

    @property
    def num_categories(self) -> int:
        """Category ids in use, 0 included."""
        return int(self.category_id.max(initial=0)) + 1

    @property
    def num_brands(self) -> int:
        """Brand ids in use, 0 included."""
        return int(self.brand_id.max(initial=0)) + 1


def write_items(
    path: str | Path,
    vocabulary: Vocabulary,
    catalogue: pa.Table | None,
    *,
    num_price_bands: int,
) -> None:
    """Writes items.parquet, whole or not at all.

    Args:
        path: where to.
        vocabulary: decides the rows.
        catalogue: columns item_id and any of title, category, brand, price; the first row of a
            repeated item_id counts; None = no attributes.
        num_price_bands: bands between quantiles of the prices of items with training events.

    Raises:
        UserError: if the catalogue has no item_id, or the bands are fewer than 1.
    """
    if num_price_bands < 1:
        raise UserError(f"prepare.num_price_bands must be at least 1, got {num_price_bands}")
    columns = _aligned(vocabulary, catalogue)
    counts = np.concatenate([np.zeros(NUM_SPECIALS, np.int64), vocabulary.train_counts])
    prices = columns["price"].to_numpy(zero_copy_only=False)
    table = {
        "item": np.arange(vocabulary.vocab_size, dtype=np.int32),
        "item_id": vocabulary.names(),
        **columns,
        "category_id": _numbered(columns["category"]),
        "brand_id": _numbered(columns["brand"]),
        "price_band": band_prices(prices, counts > 0, num_price_bands),
        "train_count": counts.astype(np.int32),
    }
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.table(table).select(SCHEMA.names).cast(SCHEMA), partial)
    os.replace(partial, path)


def band_prices(prices: np.ndarray, is_sold: np.ndarray, num_bands: int) -> np.ndarray:
    """Returns price bands int32 [V] by quantiles of the sold items' prices.

    Args:
        prices: float [V], NaN where unknown.
        is_sold: bool [V], items whose prices set the quantiles (those of the training part); where
            none has a price, all prices do.
        num_bands: bands 1 .. num_bands.

    Returns:
        0 where the price is unknown, else 1 + number of inner quantiles at or below the price.
    """
    known = np.isfinite(prices)
    reference = prices[known & is_sold] if np.any(known & is_sold) else prices[known]
    bands = np.zeros(len(prices), np.int32)
    if len(reference):
        edges = np.quantile(reference, np.arange(1, num_bands) / num_bands)
        bands[known] = 1 + np.searchsorted(edges, prices[known], side="right")
    return bands


def _aligned(vocabulary: Vocabulary, catalogue: pa.Table | None) -> dict[str, pa.Array]:
    """Returns title, category, brand ("" = none) and price (null = none), one per item id."""
    names = vocabulary.names()
    rows = pa.nulls(len(names), pa.int64())
    if catalogue is not None:
        if "item_id" not in catalogue.column_names:
            raise UserError(f"the catalogue has no item_id; it has {catalogue.column_names}")
        keys = catalogue["item_id"].cast(pa.string()).combine_chunks()
        found = pc.index_in(vocabulary.item_ids, value_set=keys, skip_nulls=True)
        rows = pa.concat_arrays([pa.nulls(NUM_SPECIALS, pa.int32()), found]).cast(pa.int64())
    columns = {}
    for name in ("title", "category", "brand", "price"):
        kind = SCHEMA.field(name).type
        if catalogue is None or name not in catalogue.column_names:
            column = pa.nulls(len(names), kind)
        else:
            column = catalogue[name].cast(kind).combine_chunks().take(rows)
        columns[name] = column if name == "price" else pc.fill_null(column, "")
    return columns


def _numbered(values: pa.Array) -> np.ndarray:
    """Returns int32 numbers 1, 2, ... of the sorted distinct non-empty strings, 0 for empty."""
    strings = values.to_numpy(zero_copy_only=False)
    distinct = sorted(set(strings) - {""})
    number = {"": 0} | {value: i for i, value in enumerate(distinct, 1)}
    return np.array([number[value] for value in strings], np.int32)


def read_items(path: str | Path) -> ItemTable:
    """Reads items.parquet.

    Raises:
        UserError: if the file is missing or not one of ours.
    """
    if not Path(path).exists():
        raise UserError(f"{path} is missing: run the prepare stage first")
    table = pq.read_table(path)
    if table.schema.names != SCHEMA.names:
        raise UserError(f"{path} has columns {table.schema.names}, not {SCHEMA.names}")
    column = {name: table[name].to_numpy() for name in SCHEMA.names}
    return ItemTable(
        item_ids=column["item_id"],
        titles=column["title"],
        categories=column["category"],
        brands=column["brand"],
        prices=column["price"],
        category_id=column["category_id"],
        brand_id=column["brand_id"],
        price_band=column["price_band"],
        train_count=column["train_count"],
    )
