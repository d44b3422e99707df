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
_CELLS = 1 << 20  # alias cells built at a time; bounds what the host needs beside the tables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AliasTables:
    """Alias tables of several distributions, one after another.

    Thresholds and aliases are two arrays: a gather of single numbers is several times faster on CPU
    than one of pairs.

    Attributes:
        thresholds: uint32 [n], acceptance of each cell times 2^32.
        aliases: int32 [n], outcome (within the distribution) where the cell is not accepted.
        starts: int32 [rows], first cell of each distribution; None: `width` apart.
        sizes: int32 [rows], its number of cells; None: `width`.
        width: cells per distribution where all have the same number, else 0; static.
    """

    thresholds: Array
    aliases: Array
    starts: Array | None
    sizes: Array | None
    width: int = dataclasses.field(metadata={"static": True})

    def draw(
        self, rows: jax.Array, column_word: jax.Array, accept_word: jax.Array | None = None
    ) -> jax.Array:
        """Returns an outcome int32 [B] per row index [B]; one word [B] may serve both choices."""
        if self.starts is None:
            start, size = rows * self.width, jnp.uint32(self.width)
        else:
            start = take_rows(self.starts, rows)
            size = take_rows(self.sizes, rows).astype(jnp.uint32)
        place = multiply_high(column_word, size)
        if accept_word is None:
            accept_word = column_word * size  # the low half: where in its column the word fell
        column = place.astype(jnp.int32)
        accepted = accept_word < take_rows(self.thresholds, start + column)
        return jnp.where(accepted, column, take_rows(self.aliases, start + column))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KernelTables:
    """Kernel rows as alias tables.

    Attributes:
        neighbours: int32 [V, N].
        alias: V distributions over N places in `neighbours`.
        usable: bool [V], whether the item has neighbours.
        lags: float32 [W].
        mix: uint32 [K], probability of the kernel times 2^32.
    """

    neighbours: Array
    alias: AliasTables
    usable: Array
    lags: Array
    mix: Array

    def draw(self, rows: jax.Array, word: jax.Array) -> jax.Array:
        """Returns a neighbour int32 [B] of each row item [B]."""
        place = self.alias.draw(rows, word)
        flat = jnp.asarray(self.neighbours).reshape(-1)
        return take_rows(flat, rows * self.neighbours.shape[1] + place)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplingTables:
    """A model made ready to draw from.

    Attributes:
        params: the model itself (continuations filter with it).
        start: S distributions over K states, one for each segment of users.
        move: K distributions over K + 1 outcomes; outcome K is the stop.
        duration: K distributions over D places, the number of events of a stay less 1; or None.
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
    duration: AliasTables | None
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


def make_tables(
    params: HmmParams, temperature: float = 1.0, allowed: np.ndarray | None = None
) -> SamplingTables:
    """Builds the tables, on the host, in O(states x items).

    Args:
        params: the model.
        temperature: exponent 1 / temperature on the item distributions (own and kernel rows, or
            categories); below 1 draws keep to the likely items. States, stops, actions and gaps are
            drawn as they are.
        allowed: bool [V], the items that may be drawn (in stock, of a category); None: all. The
            rest of every own distribution and kernel row is scaled up to 1. A kernel row without
            allowed neighbours is not usable: where no other is, the state's own distribution
            chooses. What states are likely given a history is left to the whole model.

    Raises:
        ValueError: if a table is no distribution, the temperature is not above 0, `allowed` is not
            bool [V], or a state is left without an item to draw from its own distribution.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature = {temperature}: expected a finite number above 0")
    params = jax.tree.map(np.asarray, params)
    validate_params(params)
    allowed = _checked_allowed(params, allowed)
    stop = params.stop[:, None].astype(np.float64)
    gap = params.gap.astype(np.float64)
    if gap.shape[1] > 1:
        gap = np.where((np.arange(gap.shape[1]) > 0) | (gap[:, :1] >= 1.0), gap, 0.0)
    items, members, member_items = _item_tables(params, temperature, allowed)
    tables = SamplingTables(
        params=params,
        start=alias_tables(params.start),
        move=alias_tables(np.concatenate([(1 - stop) * params.transition, stop], axis=1)),
        duration=None if params.duration is None else alias_tables(params.duration),
        action=alias_tables(params.action),
        gap=alias_tables(gap),
        items=items,
        members=members,
        member_items=member_items,
        kernel=_kernel_tables(params, temperature, allowed),
    )
    return jax.tree.map(jnp.asarray, tables)


def _checked_allowed(params: HmmParams, allowed: np.ndarray | None) -> np.ndarray:
    num_items = params.items.num_items
    if allowed is None:
        return np.ones(num_items, bool)
    allowed = np.asarray(allowed)
    if allowed.shape != (num_items,) or allowed.dtype != np.bool_:
        raise ValueError(
            f"allowed is {allowed.dtype} {allowed.shape}: expected bool {(num_items,)}"
        )
    return allowed


def _check_states(odds: np.ndarray) -> None:
    """Refuses odds [K, n] with a row that holds nothing: its alias table would draw anything."""
    empty = np.flatnonzero(~(odds.sum(-1) > 0))
    if empty.size:
        raise ValueError(f"allowed: state {empty[0]} is left without an item it can draw")


def _item_tables(
    params: HmmParams, temperature: float, allowed: np.ndarray
) -> tuple[AliasTables, AliasTables | None, np.ndarray | None]:
    if isinstance(params.items, PlainItems):
        odds = _tempered(params.items.table.T, temperature) * allowed
        _check_states(odds)
        return alias_tables(odds), None, None
    category_of = params.items.category_of
    num_categories = params.items.category.shape[1]
    order = np.argsort(category_of, kind="stable").astype(np.int32)
    sizes = np.bincount(category_of, minlength=num_categories)
    rows = np.split(params.items.item_in_category[order], np.cumsum(sizes)[:-1])
    rows = [_tempered(row, temperature) for row in rows]
    masks = np.split(allowed[order], np.cumsum(sizes)[:-1])
    kept = [row * mask for row, mask in zip(rows, masks, strict=True)]
    totals = np.array([row.sum() for row in rows])
    share = np.array([row.sum() for row in kept]) / np.where(totals > 0, totals, 1.0)
    category = np.where(sizes[None, :] > 0, params.items.category, 0.0)
    odds = _tempered(category, temperature) * share
    _check_states(odds)
    return alias_tables(odds), _ragged_alias_tables(kept), order


def _kernel_tables(
    params: HmmParams, temperature: float, allowed: np.ndarray
) -> KernelTables | None:
    kernel = params.kernel
    if kernel is None:
        return None
    scale = np.append(kernel.scale, 0.0).astype(np.float64)
    weights = _tempered(kernel.counts * scale[kernel.neighbours], temperature)
    weights = weights * np.append(allowed, False)[kernel.neighbours]
    return KernelTables(
        neighbours=kernel.neighbours,
        alias=alias_tables(weights),
        usable=weights.sum(1) > 0,
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
    """Builds one alias table per row of odds [rows, n]; rows need not sum to 1.

    Raises:
        ValueError: if the cells are too many for 32-bit places.
    """
    odds = np.asarray(odds)
    if odds.size >= 2**31:
        raise ValueError(f"{odds.shape[0]} x {odds.shape[1]} alias cells: at most 2^31 - 1 fit")
    cells = [_alias_cells(part) for part in np.array_split(odds, max(1, odds.size // _CELLS))]
    return AliasTables(
        thresholds=np.concatenate([thresholds for thresholds, _ in cells]),
        aliases=np.concatenate([aliases for _, aliases in cells]),
        starts=None,
        sizes=None,
        width=odds.shape[1],
    )


def _ragged_alias_tables(rows: list[np.ndarray]) -> AliasTables:
    """Builds one alias table per row of odds, of different lengths."""
    cells = [_alias_cells(row[None, :]) for row in rows]
    sizes = np.array([row.size for row in rows], np.int64)
    return AliasTables(
        thresholds=np.concatenate([thresholds for thresholds, _ in cells]),
        aliases=np.concatenate([aliases for _, aliases in cells]),
        starts=(np.cumsum(sizes) - sizes).astype(np.int32),
        sizes=sizes.astype(np.int32),
        width=0,
    )


def _alias_cells(odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds uint32 [R * n] and aliases int32 [R * n] of R distributions.

    Columns below the mean (light) are filled by those above it (heavy), in order: the light column
    whose need begins at d of the total need is filled by the heavy one whose surplus reaches d. In
    every row need equals surplus, so one sweep serves all rows one after another.
    """
    num_rows, num = odds.shape
    odds = odds.astype(np.float64)
    totals = odds.sum(1, keepdims=True)
    odds = np.where(totals > 0, odds, 1.0)
    height = (odds * (num / odds.sum(1, keepdims=True))).reshape(-1) if num else odds.reshape(-1)
    if num:  # rounding may leave a flat row, one column even, a little below its mean throughout
        top = odds.argmax(1) + num * np.arange(num_rows)
        height[top] = np.maximum(height[top], 1)
    light, heavy = np.flatnonzero(height < 1), np.flatnonzero(height >= 1)
    need, surplus = np.cumsum(1 - height[light]), np.cumsum(height[heavy] - 1)
    accept, alias = np.ones(height.size), np.arange(height.size)
    if light.size:
        begin = np.concatenate([[0.0], need[:-1]])
        giver = _within_rows(np.searchsorted(surplus, begin), heavy, light // num, num)
        alias[light] = heavy[giver]
        accept[light] = height[light]
        # A heavy column that gave more than its surplus is filled by the next one of its row.
        taken = np.minimum(np.searchsorted(need, surplus, side="right"), light.size - 1)
        row, same = heavy // num, np.diff(heavy // num, append=-1) == 0
        over = np.flatnonzero(same & (need[taken] > surplus) & (light[taken] // num == row))
        accept[heavy[over]] = np.clip(1 + surplus[over] - need[taken[over]], 0, 1)
        alias[heavy[over]] = heavy[over + 1]
    alias = np.where(accept >= 1, np.arange(height.size), alias)
    return _to_words(accept), (alias % max(num, 1)).astype(np.int32)


def _within_rows(places: np.ndarray, heavy: np.ndarray, rows: np.ndarray, num: int) -> np.ndarray:
    """Places in `heavy` moved into the given rows, where rounding pushed them over an end."""
    first = np.searchsorted(heavy, rows * num)
    last = np.searchsorted(heavy, (rows + 1) * num) - 1
    return np.clip(places, first, np.maximum(last, first))
