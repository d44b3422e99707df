"""Cells of category x price band."""

import jax
import numpy as np
import pytest

from recjax import hmm


def test_cells_number_the_pairs_that_occur():
    category = np.array([3, 0, 3, 3, 0, 5])
    band = np.array([2, 1, 0, 2, 1, 1])
    cells = hmm.item_cells(category, band)
    np.testing.assert_array_equal(cells, [2, 0, 1, 2, 0, 3])
    assert cells.dtype == np.int32
    with pytest.raises(ValueError, match="expected \\[V\\] both"):
        hmm.item_cells(category, band[:-1])


def test_price_bands_share_out_each_category():
    rng = np.random.default_rng(0)
    category = rng.integers(0, 3, 90)
    price = rng.lognormal(category * 2.0, 1.0)
    price[::9] = np.nan
    bands = hmm.price_bands(price, category, 4)
    assert (bands[::9] == 4).all()
    for one in range(3):
        known = (category == one) & np.isfinite(price)
        sizes = np.bincount(bands[known], minlength=4)
        assert sizes.sum() == known.sum() and sizes.max() - sizes.min() <= 1
        order = np.argsort(price[known])
        assert (np.diff(bands[known][order]) >= 0).all()
    np.testing.assert_array_equal(hmm.price_bands(np.full(4, 2.0), np.zeros(4, int), 2), [0] * 4)
    with pytest.raises(ValueError, match="num_bands = 0"):
        hmm.price_bands(price, category, 0)


def test_a_category_and_price_model_learns_the_cells_of_each_state(toolbox):
    category_of, band_of = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 1, 0, 0, 1])
    cells = hmm.item_cells(category_of, band_of)
    log = toolbox.random_events(np.random.default_rng(0), [4, 3, 4, 2], 4)
    params, _ = hmm.fit_baum_welch(
        jax.random.key(0), lambda: [log], toolbox.sizes, toolbox.settings(), item_category=cells
    )
    hmm.validate_params(params)
    assert params.items.category.shape == (3, 4)
