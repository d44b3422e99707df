"""Tables for exact draws, built on the host once per model: alias tables and integer thresholds.

Nothing is drawn here (`sampling`). Probabilities are turned into 32-bit integers in double
precision. An item is drawn with one random word for the column of its alias table and a second one
for the acceptance, so that even an item of probability 1e-3 / V is drawn at its rate to 1e-5; one
float32 number cannot serve both. Small alphabets use a single word for both, exact to 2^-32.

Reference:
    Walker (1977), "An efficient method for generating discrete random variables with general
    distributions"; the construction below is the sweep of Huebschle-Schneider and Sanders (2022),
    "Parallel weighted random sampling", done with prefix sums.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.emissions import PlainItems
from recjax.hmm.events import Array, take_rows
from recjax.hmm.parameters import HmmParams
from recjax.hmm.validation import validate_params

_WORDS = 2.0**32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AliasTables:
    """Alias tables of several distributions, one after another.

    Attributes:
        cells: uint32 [n, 2], acceptance threshold and alias (outcome within the distribution).
        starts: int32 [rows], first cell of each distribution.
        sizes: int32 [rows], its number of cells.
    """

    cells: Array
    starts: Array
    sizes: Array

    def draw(
        self, rows: jax.Array, column_word: jax.Array, accept_word: jax.Array | None = None
    ) -> jax.Array:
        """Returns an outcome int32 [B] per row index [B]; one word [B] may serve both choices."""
        size = take_rows(self.sizes, rows).astype(jnp.uint32)
        column = multiply_high(column_word, size)
        if accept_word is None:
            accept_word = column_word * size  # the low half: where in its column the word fell
        cell = take_rows(self.cells, take_rows(self.starts, rows) + column.astype(jnp.int32))
        outcome = jnp.where(accept_word < cell[..., 0], column, cell[..., 1])
        return outcome.astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KernelTables:
    """Kernel rows as integer thresholds.

    Attributes:
        neighbours: int32 [V, N].
        thresholds: uint32 [V, N], cumulative probabilities times 2^32, the last one full.
        usable: bool [V], whether the item has neighbours.
        lags: float32 [W].
        mix: uint32 [K], probability of the kernel times 2^32.
    """

    neighbours: Array
    thresholds: Array
    usable: Array
    lags: Array
    mix: Array

    def draw(self, rows: jax.Array, word: jax.Array) -> jax.Array:
        """Returns a neighbour int32 [B] of each row item [B] by binary search."""
        num_neighbours = self.thresholds.shape[1]
        flat = jnp.asarray(self.thresholds).reshape(-1)
        start = rows * num_neighbours
        index, size = jnp.zeros_like(rows), num_neighbours
        while size > 1:  # static; finds the number of thresholds <= word
            half = size // 2
            above = take_rows(flat, start + index + half - 1) <= word
            index = jnp.where(above, index + half, index)
            size -= half
        return take_rows(jnp.asarray(self.neighbours).reshape(-1), start + index)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplingTables:
    """A model made ready to draw from.

    Attributes:
        params: the model itself (continuations filter with it).
        start: one distribution over K states.
        move: K distributions over K + 1 outcomes; outcome K is the stop.
        action: K distributions over A actions.
        gap: K distributions over G bins; bin 0 belongs to first events and is not drawn if G > 1.
        items: K distributions over V items, or over C categories.
        members: C distributions over the items of a category; None for plain items.
        member_items: int32 [V], items ordered by category; None for plain items.
        kernel: rows of the kernel, or None.
    """

    params: HmmParams
    start: AliasTables
    move: AliasTables
    action: AliasTables
    gap: AliasTables
    items: AliasTables
    members: AliasTables | None
    member_items: Array | None
    kernel: KernelTables | None


def multiply_high(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the upper 32 bits of the 64-bit product of two uint32 arrays [...]."""
    low_mask = jnp.uint32(0xFFFF)
    left_high, left_low = left >> 16, left & low_mask
    right_high, right_low = right >> 16, right & low_mask
    middle = left_high * right_low + ((left_low * right_low) >> 16)
    middle_low = (middle & low_mask) + left_low * right_high
    return left_high * right_high + (middle >> 16) + (middle_low >> 16)


def make_tables(params: HmmParams, temperature: float = 1.0) -> SamplingTables:
    """Builds the tables, on the host, in O(states x items).

    Args:
        params: the model.
        temperature: exponent 1 / temperature on the item distributions (own and kernel rows, or
            categories); below 1 draws keep to the likely items. States, stops, actions and gaps are
            drawn as they are.

    Raises:
        ValueError: if a table is no distribution or the temperature is not above 0.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature = {temperature}: expected a finite number above 0")
    params = jax.tree.map(np.asarray, params)
    validate_params(params)
    stop = params.stop[:, None].astype(np.float64)
    gap = params.gap.astype(np.float64)
    if gap.shape[1] > 1:
        gap = np.where((np.arange(gap.shape[1]) > 0) | (gap[:, :1] >= 1.0), gap, 0.0)
    items, members, member_items = _item_tables(params, temperature)
    tables = SamplingTables(
        params=params,
        start=alias_tables(params.start[None, :]),
        move=alias_tables(np.concatenate([(1 - stop) * params.transition, stop], axis=1)),
        action=alias_tables(params.action),
        gap=alias_tables(gap),
        items=items,
        members=members,
        member_items=member_items,
        kernel=_kernel_tables(params, temperature),
    )
    return jax.tree.map(jnp.asarray, tables)


def _item_tables(
    params: HmmParams, temperature: float
) -> tuple[AliasTables, AliasTables | None, np.ndarray | None]:
    if isinstance(params.items, PlainItems):
        return alias_tables(_tempered(params.items.table.T, temperature)), None, None
    category_of = params.items.category_of
    num_categories = params.items.category.shape[1]
    order = np.argsort(category_of, kind="stable").astype(np.int32)
    sizes = np.bincount(category_of, minlength=num_categories)
    rows = np.split(params.items.item_in_category[order], np.cumsum(sizes)[:-1])
    members = _joined([_alias_row(_tempered(row, temperature)) for row in rows])
    category = np.where(sizes[None, :] > 0, params.items.category, 0.0)
    return alias_tables(_tempered(category, temperature)), members, order


def _kernel_tables(params: HmmParams, temperature: float) -> KernelTables | None:
    kernel = params.kernel
    if kernel is None:
        return None
    scale = np.append(kernel.scale, 0.0).astype(np.float64)
    weights = _tempered(kernel.counts * scale[kernel.neighbours], temperature)
    sums = np.cumsum(weights, axis=1)
    totals = sums[:, -1:]
    shares = sums / np.where(totals > 0, totals, 1.0)
    return KernelTables(
        neighbours=kernel.neighbours,
        thresholds=_to_words(shares),
        usable=totals[:, 0] > 0,
        lags=kernel.lags,
        mix=_to_words(params.mix),
    )


def _to_words(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities in units of 2^-32, uint32; float32 cannot hold the largest, 2^32 - 1."""
    return np.minimum(np.rint(probabilities.astype(np.float64) * _WORDS), _WORDS - 1).astype(
        np.uint32
    )


def _tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Odds under a temperature; the largest of a row becomes 1, so that nothing overflows."""
    if temperature == 1.0 or not probabilities.size:
        return probabilities
    top = probabilities.max(-1, keepdims=True)
    return (probabilities / np.where(top > 0, top, 1.0)).astype(np.float64) ** (1 / temperature)


def alias_tables(odds: np.ndarray) -> AliasTables:
    """Builds one alias table per row of odds [rows, n]; rows need not sum to 1."""
    return _joined([_alias_row(row) for row in np.asarray(odds)])


def _joined(rows: list[np.ndarray]) -> AliasTables:
    sizes = np.array([row.shape[0] for row in rows], np.int64)
    return AliasTables(
        cells=np.concatenate(rows),
        starts=(np.cumsum(sizes) - sizes).astype(np.int32),
        sizes=sizes.astype(np.int32),
    )


def _alias_row(odds: np.ndarray) -> np.ndarray:
    """The alias cells uint32 [n, 2] of one distribution.

    Columns below the mean (light) are filled by those above it (heavy), in order: the light column
    whose need begins at d of the total need is filled by the heavy one whose surplus reaches d.
    """
    num = odds.shape[0]
    odds = odds.astype(np.float64)
    if not num or not odds.sum() > 0:
        odds = np.ones(num)
    height = odds * (num / odds.sum())
    light = np.flatnonzero(height < 1)
    heavy = np.flatnonzero(height >= 1)
    need = np.cumsum(1 - height[light])
    surplus = np.cumsum(height[heavy] - 1)
    accept, alias = np.ones(num), np.arange(num)
    if light.size and heavy.size:  # rounding may leave a flat row without either
        begin = np.concatenate([[0.0], need[:-1]])
        giver = np.searchsorted(surplus, begin, side="left")
        alias[light] = heavy[np.minimum(giver, heavy.size - 1)]
        accept[light] = height[light]
        # A heavy column that gave more than its surplus is filled by the next one.
        taken = np.searchsorted(need, surplus, side="right")
        over = np.flatnonzero(taken < light.size)
        over = over[over < heavy.size - 1]
        accept[heavy[over]] = np.clip(1 + surplus[over] - need[taken[over]], 0, 1)
        alias[heavy[over]] = heavy[over + 1]
    threshold = _to_words(accept)
    alias = np.where(accept >= 1, np.arange(num), alias)
    return np.stack([threshold, alias.astype(np.uint32)], axis=1)
