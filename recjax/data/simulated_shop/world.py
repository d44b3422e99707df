"""The world of the simulated shop: catalogue, leaf categories, complements, seasons.

Here: everything that is fixed before the first user comes, and the shop's calendar of sales. Not
here: users (`population`) or what they do (`choice`, `process`). Called by `SimulatedShop`.

Axes: V items, L leaf categories, C places in a leaf's list, D style dimensions, S segments.
"""

import dataclasses

import numpy as np

from recjax.data.simulated_shop import words
from recjax.data.simulated_shop.config import (
    DAY_SECONDS,
    START_TIME,
    WEEK_SECONDS,
    ShopConfig,
)

STYLE_DIM = 8
ITEMS_PER_LEAF = 20
NUM_COMPLEMENTS = 5
NUM_SEASONS = 12  # weeks in one turn of the seasons; row NUM_SEASONS is their mean
SALE_LOG_PRICE = 0.25  # a sale takes this off the log price
_SALE_SHARE = 0.12
_LATE_SHARE = 0.12  # items launched while the log runs


@dataclasses.dataclass(frozen=True)
class World:
    """Arrays of the catalogue; items are sorted by launch, so the live ones are a prefix.

    Attributes:
        config: the shop's config.
        leaf: int32 [V], leaf category of an item.
        group: int32 [V], its second-level category.
        brand: int32 [V].
        vector: float64 [V, D], style.
        image: float32 [V, 16], a noisy projection of style and leaf.
        price: float64 [V], list price.
        relative_price: float64 [V], log price against the leaf's mean.
        quality: float64 [V], seen in ratings and conversion.
        appeal: float64 [V], pull that all users feel.
        trend: float64 [V], change of the pull from the first to the last day, halved.
        launch_time: int64 [V] in seconds, ascending.
        leaf_items: int32 [L, C], the leaf's items ascending, padded with -1.
        group_items: int32 [G, C'], the category's items ascending, padded with -1.
        complement_leaves: int32 [L, 2].
        complements: int32 [V, NUM_COMPLEMENTS], items that go with an item.
        first_complement_time: int64 [V], launch of the first of them.
        popularity: float64 [V], running sum of the weights by which idle users stray.
        leaf_draws: float64 [(NUM_SEASONS + 1) * S * L], running leaf shares; row r lies in (r, r +
            1].
        segment_style: float64 [S, D], mean taste of a segment.
    """

    config: ShopConfig
    leaf: np.ndarray
    group: np.ndarray
    brand: np.ndarray
    vector: np.ndarray
    image: np.ndarray
    price: np.ndarray
    relative_price: np.ndarray
    quality: np.ndarray
    appeal: np.ndarray
    trend: np.ndarray
    launch_time: np.ndarray
    leaf_items: np.ndarray
    group_items: np.ndarray
    complement_leaves: np.ndarray
    complements: np.ndarray
    first_complement_time: np.ndarray
    popularity: np.ndarray
    leaf_draws: np.ndarray
    segment_style: np.ndarray

    @property
    def num_leaves(self) -> int:
        """Number of leaf categories."""
        return len(self.leaf_items)

    def num_live(self, times: np.ndarray) -> np.ndarray:
        """Counts the items launched at `times` (they are the first so many)."""
        return np.searchsorted(self.launch_time, times, side="right")

    def log_discount(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Says what a sale takes off the log price, 0 outside of sales.

        Sales last a calendar week of the shop. They come from a hash, so that no table of items
        times weeks is held.
        """
        weeks = ((times - START_TIME) // WEEK_SECONDS).astype(np.uint64)
        mixed = items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (weeks + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F)) >> np.uint64(7)
        mixed = (mixed * np.uint64(0x165667B19E3779F9)) >> np.uint64(40)
        return np.where(mixed < _SALE_SHARE * 2**24, SALE_LOG_PRICE, 0.0)

    def draw_leaf(
        self, seasons: np.ndarray, segments: np.ndarray, uniforms: np.ndarray
    ) -> np.ndarray:
        """Draws leaf categories by segment and season; all arrays [n]."""
        row = seasons * len(words.SEGMENTS) + segments
        found = np.searchsorted(self.leaf_draws, row + uniforms, side="right")
        return np.minimum(found - row * self.num_leaves, self.num_leaves - 1)


def season_of(times: np.ndarray) -> np.ndarray:
    """Numbers the season 0..NUM_SEASONS - 1 of times in seconds."""
    return (times - START_TIME) // WEEK_SECONDS % NUM_SEASONS


def build_world(config: ShopConfig) -> World:
    """Builds the catalogue and all that hangs on it from the config's seed.

    >>> build_world(ShopConfig(num_items=40)).complements.shape
    (40, 5)
    """
    rng = np.random.default_rng([config.seed, 0, 2])
    num_items, num_leaves = config.num_items, max(4, round(config.num_items / ITEMS_PER_LEAF))
    leaf = (np.arange(num_items) % num_leaves).astype(np.int32)
    leaf[num_leaves:] = rng.permutation(leaf[num_leaves:])
    launch = _launch_times(rng, config, num_leaves)
    brand = _brands(rng, leaf, num_items)
    num_brands = int(brand.max()) + 1
    brand_style = rng.normal(size=(num_brands, STYLE_DIM))
    vector = 0.25 * brand_style[brand] + 0.42 * rng.normal(size=(num_items, STYLE_DIM))
    relative = 0.3 * rng.normal(size=num_brands)[brand] + 0.25 * rng.normal(size=num_items)
    price = np.exp(rng.normal(3.2, 0.8, num_leaves)[leaf] + relative)
    leaf_style = rng.normal(size=(num_leaves, STYLE_DIM))
    mixer = rng.normal(size=(2 * STYLE_DIM, 16)) / 4
    image = np.concatenate([vector * 2, leaf_style[leaf]], axis=1)
    image = (image[:, :, None] * mixer).sum(1) + 0.15 * rng.normal(size=(num_items, 16))
    leaf_pull = rng.normal(0, 0.6, num_leaves)
    appeal = rng.normal(0, 0.9, num_items)
    group = words.category_groups(num_leaves)[leaf]
    complement_leaves = _complement_leaves(rng, num_leaves)
    leaf_items = _lists(leaf, num_leaves)
    complements = _complements(rng, leaf_items, complement_leaves, vector, brand)
    return World(
        config=config,
        leaf=leaf,
        group=group,
        brand=brand,
        vector=vector,
        image=image.astype(np.float32),
        price=np.round(price, 2),
        relative_price=relative,
        quality=rng.normal(0, 0.6, num_items),
        appeal=appeal,
        trend=rng.normal(0, 0.7, num_items),
        launch_time=launch,
        leaf_items=leaf_items,
        group_items=_lists(group, int(group.max()) + 1),
        complement_leaves=complement_leaves,
        complements=complements,
        first_complement_time=launch[complements].min(axis=1),
        popularity=np.cumsum(np.exp(appeal + leaf_pull[leaf])),
        leaf_draws=_leaf_draws(rng, leaf_pull),
        segment_style=0.5 * rng.normal(size=(len(words.SEGMENTS), STYLE_DIM)),
    )


def _launch_times(rng: np.random.Generator, config: ShopConfig, num_leaves: int) -> np.ndarray:
    """Most items are older than the log; the first of every leaf always is."""
    num_late = min(int(_LATE_SHARE * config.num_items), config.num_items - num_leaves)
    days = np.concatenate(
        [
            rng.uniform(-400, 0, config.num_items - num_late),
            rng.uniform(0.05, 0.95, num_late) * config.num_days,
        ]
    )
    return np.sort((START_TIME + days * DAY_SECONDS).astype(np.int64))


def _brands(rng: np.random.Generator, leaf: np.ndarray, num_items: int) -> np.ndarray:
    """Each department has its own brands, some large and some small."""
    num_departments = len(words.DEPARTMENTS)
    per_department = max(3, num_items // 120)
    rank = np.floor(per_department * rng.random(len(leaf)) ** 1.5)
    return (rank * num_departments + leaf % num_departments).astype(np.int32)


def _lists(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Packs the positions of each label into one row, ascending, padded with -1."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=num_labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    result = np.full((num_labels, int(counts.max())), -1, np.int32)
    result[labels[order], place] = order
    return result


def _complement_leaves(rng: np.random.Generator, num_leaves: int) -> np.ndarray:
    """Two other leaves per leaf: a step and a longer step round a shuffled circle."""
    circle = rng.permutation(num_leaves)
    place = np.argsort(circle)
    steps = np.array([1, 3 if num_leaves > 4 else 2])
    return circle[(place[:, None] + steps) % num_leaves].astype(np.int32)


def _complements(
    rng: np.random.Generator,
    leaf_items: np.ndarray,
    leaves: np.ndarray,
    vector: np.ndarray,
    brand: np.ndarray,
) -> np.ndarray:
    """The items of the complement leaves that fit best in style and brand."""
    result = np.empty((len(vector), NUM_COMPLEMENTS), np.int32)
    for row, partners in zip(leaf_items, leaves, strict=True):
        items, others = row[row >= 0], leaf_items[partners].ravel()
        others = others[others >= 0]
        fit = 1.5 * np.einsum("id,jd->ij", vector[items], vector[others])
        fit += 0.5 * (brand[items][:, None] == brand[others])
        fit += 0.3 * rng.normal(size=fit.shape)
        best = np.argsort(-fit, axis=1, kind="stable")[:, :NUM_COMPLEMENTS]
        result[items] = others[np.resize(best, (len(items), NUM_COMPLEMENTS))]
    return result


def _leaf_draws(rng: np.random.Generator, leaf_pull: np.ndarray) -> np.ndarray:
    """Running leaf shares per season (the mean last) and segment, ready for one `searchsorted`."""
    num_leaves, num_departments = len(leaf_pull), len(words.DEPARTMENTS)
    liking = rng.normal(0, 1.2, (len(words.SEGMENTS), num_departments))
    peak = rng.random(num_leaves)
    seasons = np.arange(NUM_SEASONS)[:, None] / NUM_SEASONS
    season = np.vstack([0.8 * np.cos(2 * np.pi * (seasons - peak)), np.zeros((1, num_leaves))])
    logits = season[:, None] + leaf_pull + liking[:, np.arange(num_leaves) % num_departments]
    shares = np.exp(logits).reshape(-1, num_leaves)
    running = np.cumsum(shares, axis=1)
    running /= running[:, -1:]
    return (running + np.arange(len(running))[:, None]).ravel()
