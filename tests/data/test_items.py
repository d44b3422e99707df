"""The item table."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.items import band_prices, read_items, write_items
from recjax.data.vocabulary import Vocabulary
from recjax.errors import UserError

VOCABULARY = Vocabulary.build({"b": 3, "a": 5}, ["c", "d", "e"])
CATALOGUE = pa.table(
    {
        "item_id": ["c", "a", "a", "d", "zz"],
        "title": ["Sea", "Aye", "again", None, "gone"],
        "category": ["home > lamp", "toy", "home", "home > lamp", "never"],
        "brand": ["x", None, "x", "w", "v"],
        "price": [3.0, 1.0, 9.0, None, 7.0],
    }
)


def test_rows_follow_the_vocabulary(tmp_path):
    write_items(tmp_path / "items.parquet", VOCABULARY, CATALOGUE, num_price_bands=2)
    items = read_items(tmp_path / "items.parquet")
    assert items.item_ids.tolist() == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e",
    ]  # fmt: skip
    assert items.titles.tolist() == [""] * 5 + ["Aye", "", "Sea", "", ""]
    assert items.categories.tolist()[5:] == ["toy", "", "home > lamp", "home > lamp", ""]
    assert items.category_id.tolist() == [0] * 5 + [2, 0, 1, 1, 0]
    assert items.brand_id.tolist() == [0] * 5 + [0, 0, 2, 1, 0]
    assert items.price_band.tolist() == [0] * 5 + [2, 0, 2, 0, 0]
    assert items.train_count.tolist() == [0] * 5 + [5, 3, 0, 0, 0]
    assert items.prices[5] == 1 and np.isnan(items.prices[6])
    assert (items.vocab_size, items.num_items) == (10, 5)
    assert (items.num_categories, items.num_brands) == (3, 3)
    for name in ("category_id", "brand_id", "price_band", "train_count"):
        assert getattr(items, name).dtype == np.int32
    assert [p.name for p in tmp_path.iterdir()] == ["items.parquet"]


def test_no_catalogue_leaves_attributes_empty(tmp_path):
    write_items(tmp_path / "items.parquet", VOCABULARY, None, num_price_bands=8)
    items = read_items(tmp_path / "items.parquet")
    assert set(items.titles) == {""}
    assert not items.category_id.any() and not items.price_band.any()
    assert items.num_categories == 1


def test_catalogue_of_other_types_is_cast(tmp_path):
    vocabulary = Vocabulary.build({"1": 2, "2": 1})
    catalogue = pa.table({"item_id": pa.array([1, 2]), "price": pa.array([10, 20])})
    write_items(tmp_path / "items.parquet", vocabulary, catalogue, num_price_bands=2)
    assert read_items(tmp_path / "items.parquet").price_band.tolist()[5:] == [1, 2]


def test_price_bands_come_from_sold_items_and_are_even():
    rng = np.random.default_rng([0])
    prices = np.concatenate([rng.lognormal(2, 1, 800), np.full(500, 1e6), [np.nan]])
    bands = band_prices(prices, np.arange(1301) < 800, 8)
    assert np.bincount(bands[:800], minlength=9)[1:].tolist() == [100] * 8
    assert (bands[800:1300] == 8).all() and bands[1300] == 0
    assert band_prices(np.array([1.0, 2.0]), np.zeros(2, bool), 2).tolist() == [1, 2]
    assert band_prices(np.array([np.nan]), np.ones(1, bool), 2).tolist() == [0]
    assert band_prices(np.array([5.0, 6.0]), np.ones(2, bool), 1).tolist() == [1, 1]


def test_bad_item_input_is_explained(tmp_path):
    with pytest.raises(UserError, match=r"no item_id; it has \['sku'\]"):
        write_items(tmp_path / "i", VOCABULARY, pa.table({"sku": ["a"]}), num_price_bands=2)
    with pytest.raises(UserError, match="at least 1, got 0"):
        write_items(tmp_path / "i", VOCABULARY, None, num_price_bands=0)
    with pytest.raises(UserError, match="missing"):
        read_items(tmp_path / "items.parquet")
    with pytest.raises(UserError, match="columns"):
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
        read_items(tmp_path / "other.parquet")
