"""Cells of category x price band: what the factored model's states choose before the item.

Host only; the cells are handed to `fit_baum_welch` as `item_category` (`emissions.CategoryItems`).
"""

from __future__ import annotations

import numpy as np


def item_cells(category_of: np.ndarray, band_of: np.ndarray) -> np.ndarray:
    """Numbers the pairs (category, price band) that occur: the `item_category` of the factored HMM.

    A state then chooses a category and a price band together, and an item within the two.

    Args:
        category_of: int [V].
        band_of: int [V], e.g. of `price_bands`.

    Returns:
        int32 [V], cells counted from 0 without gaps, in the order of category, then band.

    Raises:
        ValueError: if there is not one of each per item.

    >>> item_cells(np.array([7, 0, 7, 7]), np.array([1, 0, 0, 1])).tolist()
    [2, 0, 1, 2]
    """
    category_of, band_of = np.asarray(category_of), np.asarray(band_of)
    if category_of.ndim != 1 or category_of.shape != band_of.shape:
        raise ValueError(
            f"category_of {category_of.shape}, band_of {band_of.shape}: expected [V] both"
        )
    pairs = np.stack([category_of, band_of], axis=1)
    _, cells = np.unique(pairs, axis=0, return_inverse=True)
    return cells.reshape(-1).astype(np.int32)


def price_bands(price: np.ndarray, category_of: np.ndarray, num_bands: int) -> np.ndarray:
    """Returns int32 [V], the band of each price among those of its own category.

    Args:
        price: float [V], NaN where unknown; those get a band of their own, `num_bands`.
        category_of: int [V].
        num_bands: bands with about the same number of items; equal prices share one.

    Raises:
        ValueError: if num_bands < 1 or there is not one category per price.

    >>> price = np.array([1.0, 5.0, 9.0, 100.0, 300.0, np.nan])
    >>> price_bands(price, np.array([0, 0, 0, 1, 1, 1]), 2).tolist()
    [0, 0, 1, 0, 1, 2]
    """
    price, category_of = np.asarray(price, np.float64), np.asarray(category_of)
    if num_bands < 1 or price.shape != category_of.shape:
        raise ValueError(
            f"num_bands = {num_bands}, price {price.shape}, category_of {category_of.shape}: "
            "expected at least 1 and one category per price"
        )
    order = np.lexsort((price, category_of))  # NaN comes last within its category
    _, group = np.unique(category_of[order], return_inverse=True)
    ordered, known = price[order], ~np.isnan(price[order])
    firsts = np.searchsorted(group, np.arange(group.max(initial=-1) + 1))
    priced = np.bincount(group, known)
    new = np.append(True, (np.diff(ordered) != 0) | (np.diff(group) != 0))[: price.size]
    place = np.maximum.accumulate(np.where(new, np.arange(price.size), 0)) - firsts[group]
    share = place / np.maximum(priced[group], 1)
    bands = np.empty(price.size, np.int32)
    bands[order] = np.where(known, np.minimum(share * num_bands, num_bands - 1), num_bands)
    return bands
