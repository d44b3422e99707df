"""Small made-up examples and an item table for tests of experiments."""

import numpy as np

from recjax.data.items import ItemTable
from recjax.data.vocabulary import NUM_SPECIALS, SPECIALS

NUM_ITEMS = 40


def make_item_table() -> ItemTable:
    """40 items in 5 categories."""
    size = NUM_SPECIALS + NUM_ITEMS
    names = np.array([*SPECIALS, *(f"item {i}" for i in range(NUM_ITEMS))], object)
    category = np.concatenate([np.zeros(NUM_SPECIALS), 1 + np.arange(NUM_ITEMS) % 5])
    return ItemTable(
        item_ids=names,
        titles=names,
        categories=np.array([f"c{int(c)}" if c else "" for c in category], object),
        brands=np.full(size, "", object),
        prices=np.full(size, np.nan, np.float32),
        category_id=category.astype(np.int32),
        brand_id=np.zeros(size, np.int32),
        price_band=np.zeros(size, np.int32),
        train_count=np.arange(size, dtype=np.int32),
    )


def make_records(kind: str, count: int, seed: int = 0) -> list[dict]:
    """Records of "sequences", "next_item" or "click"."""
    return [_record(kind, user, np.random.default_rng([seed, user])) for user in range(count)]


def _record(kind: str, user: int, rng: np.random.Generator) -> dict:
    length = int(rng.integers(2, 12))
    items = rng.integers(NUM_SPECIALS, NUM_SPECIALS + NUM_ITEMS, length).astype(np.int32)
    times = np.cumsum(rng.integers(1, 100_000, length)).astype(np.int64)
    record = {
        "user": user,
        "items": items,
        "actions": rng.integers(0, 5, length).astype(np.int32),
        "times": times,
        "sessions": np.zeros(length, np.int32),
        "weight": np.float32(1.0),
        "source": 0,
    }
    item = int(rng.integers(NUM_SPECIALS, NUM_SPECIALS + NUM_ITEMS))
    if kind == "next_item":
        record |= {"seen": np.unique(items), "target_item": item, "target_action": 1}
        record |= {"target_time": int(times[-1]) + 60}
    if kind == "click":
        record |= {"item": item, "time": int(times[-1]) + 60, "position": int(rng.integers(0, 6))}
        record |= {"label": np.float32(user % 2), "propensity": np.float32(0.2)}
    return record
