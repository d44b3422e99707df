"""Arrow tables of the simulated shop, in the schemas of a real shop's export.

Here: columns, names, strings. Not here: the process, files (`shop` writes them). Called by
`SimulatedShop`.
"""

import numpy as np
import pyarrow as pa

from recjax.data.simulated_shop import words
from recjax.data.simulated_shop.population import People
from recjax.data.simulated_shop.slates import NUM_PLACES, Slates
from recjax.data.simulated_shop.world import World

IMPRESSION_SCHEMA = pa.schema(
    [
        ("impression_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("position", pa.int32()),
        ("label", pa.int8()),
        ("propensity", pa.float32()),
        ("true_click_probability", pa.float32()),
    ]
)
USER_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("segment", pa.string()),
        ("age_band", pa.string()),
        ("region", pa.string()),
        ("device", pa.string()),
        ("valid_from", pa.int64()),
    ]
)


def item_names(world: World) -> np.ndarray:
    """Names all items in catalogue order: object [V] of "i000000"."""
    return np.array([item_name(item) for item in range(world.config.num_items)], object)


def item_name(item: int) -> str:
    """Names an item by its place in the catalogue.

    >>> item_name(12)
    'i000012'
    """
    return f"i{item:06d}"


def user_name(user: int) -> str:
    """Names a user by number.

    >>> user_name(12)
    'u0000012'
    """
    return f"u{user:07d}"


def catalogue_table(world: World, names: np.ndarray, titles: list[str]) -> pa.Table:
    """Builds the catalogue: one row per item, in the order of the oracle's columns."""
    paths = np.array([words.category_path(leaf) for leaf in range(world.num_leaves)], object)
    flat = pa.array(world.image.ravel(), pa.float32())
    offsets = pa.array(np.arange(0, len(flat) + 1, world.image.shape[1]), pa.int32())
    columns = {
        "item_id": pa.array(names, pa.string()),
        "title": pa.array(titles, pa.string()),
        "category": pa.array(paths[world.leaf], pa.string()),
        "brand": pa.array([words.brand_name(int(brand)) for brand in world.brand], pa.string()),
        "price": pa.array(world.price, pa.float32()),
        "image_vector": pa.ListArray.from_arrays(offsets, flat),
        "launch_time": pa.array(world.launch_time, pa.int64()),
    }
    return pa.table(columns)


def graph_table(world: World, names: np.ndarray) -> pa.Table:
    """Builds the knowledge graph: item-brand, item-category and item-complement triples.

    One complement in five is left out, as in graphs made by people.
    """
    num_items = world.config.num_items
    brands = [words.brand_name(int(brand)) for brand in world.brand]
    paths = [words.category_path(int(leaf)) for leaf in world.leaf]
    kept = [place for place in range(world.complements.shape[1]) if place != 2]
    tails = [names[world.complements[:, place]] for place in kept]
    heads = [names] * (2 + len(kept))
    relations = ["has_brand"] * num_items + ["in_category"] * num_items
    relations += ["complement"] * (num_items * len(kept))
    return pa.table(
        {
            "head": pa.array(np.concatenate(heads), pa.string()),
            "relation": pa.array(relations, pa.string()),
            "tail": pa.array(
                np.concatenate([np.array(brands), np.array(paths), *tails]), pa.string()
            ),
        }
    )


def users_batch(people: People, names: np.ndarray) -> pa.RecordBatch:
    """Builds the user rows of a block."""
    columns = [
        pa.array(names, pa.string()),
        look_up(words.SEGMENTS, people.segment),
        look_up(words.AGE_BANDS, people.age_band),
        look_up(words.REGIONS, people.region),
        look_up(words.DEVICES, people.device),
        pa.array(people.valid_from, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=USER_SCHEMA)


def impressions_batch(
    slates: Slates, user: np.ndarray, names: np.ndarray, items: np.ndarray
) -> pa.RecordBatch:
    """Makes a block's strips a record batch of `IMPRESSION_SCHEMA`, one row per place.

    Args:
        slates: filled strips.
        user: int64 [S], row of the block of each strip.
        names: object [B], user names.
        items: object [V], item names.
    """
    first = np.searchsorted(user, user)  # first strip of the same user
    strips = [
        f"{names[row]}-p{number}"
        for row, number in zip(user.tolist(), (np.arange(len(user)) - first).tolist(), strict=True)
    ]
    strip = np.repeat(np.arange(len(user)), NUM_PLACES)
    columns = [
        look_up(strips, strip),
        look_up(names, user[strip]),
        look_up(items, slates.items.ravel()),
        pa.array(slates.times[strip], pa.int64()),
        pa.array(np.tile(np.arange(NUM_PLACES), len(user)), pa.int32()),
        pa.array(slates.clicked.ravel().astype(np.int8), pa.int8()),
        pa.array(slates.propensity.ravel(), pa.float32()),
        pa.array(slates.probability.ravel(), pa.float32()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=IMPRESSION_SCHEMA)


def look_up(
    names: "np.ndarray | list[str] | tuple[str, ...]",
    index: np.ndarray,
    mask: np.ndarray | None = None,
) -> pa.Array:
    """Looks names up; rows where `mask` is True become null."""
    return pa.array(names, pa.string()).take(pa.array(index, pa.int64(), mask=mask))
