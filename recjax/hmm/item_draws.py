"""How the items of a batch are drawn, given the states.

Pure and traced. Without kernel and with repeats all items are drawn at once; otherwise an item
depends on those before it and rows are drawn in order of time. Every choice reads its own random
word of (row, time), see `words`. Called by `sampling`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from recjax.hmm.events import take_rows
from recjax.hmm.tables import SamplingTables
from recjax.hmm.words import RowWords, as_uniform

MAX_TRIES = 32  # draws of an item that is new to its user, before the sequence ends instead
_BLOCK_ROWS = 4096  # rows drawn together on CPU; accelerators take all at once
_CHUNK_STEPS = 8  # steps whose words are made together
_RETRY_SHARES = (4, 64)  # rows drawn again at a time are 1/4, at the end 1/64 of the batch

Words = dict[str, jax.Array]
_Carry = tuple["_Recent", jax.Array, jax.Array, jax.Array]
Tries = tuple[jax.Array, jax.Array, jax.Array]  # number [B], item [B], whether it is new [B]


def draw_items(
    tables: SamplingTables,
    words: RowWords,
    states: jax.Array,
    lengths: jax.Array,
    seen: jax.Array,
    window: jax.Array | None,
    no_repeats: bool,
) -> tuple[jax.Array, jax.Array]:
    """Draws items int32 [T, B]; lengths come back shorter where nothing new was found.

    Args:
        tables: what to draw from.
        words: random words.
        states: int32 [T, B].
        lengths: int32 [B].
        seen: int32 [B, S], items that must not come again if `no_repeats`; -1 is none.
        window: int32 [B, W], previous items, newest first, -1 for none; None: no previous items.
        no_repeats: static.
    """
    if tables.kernel is None and not no_repeats:
        times = jnp.arange(states.shape[0], dtype=jnp.int32)[:, None]
        word = words.words(_item_purposes(tables), times)
        return _draw_own(tables, states, word), lengths
    if window is None:
        window = jnp.zeros((states.shape[1], 0), jnp.int32)
    if not no_repeats:
        seen = seen[:, :0]

    def draw_block(block: _Block) -> tuple[jax.Array, jax.Array]:
        return _draw_in_order(tables, block, no_repeats)

    block = _Block(words.keys.T, states, lengths, seen.T, window.T)
    if lengths.shape[0] <= _BLOCK_ROWS:
        return draw_block(block)
    # The platform that compiles decides, which need not be the one that traces.
    return jax.lax.platform_dependent(
        block, cpu=functools.partial(_by_length, draw_block), default=draw_block
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Block:
    """Rows whose items depend on those before; rows last, so that a step reads whole lines.

    Attributes:
        keys: uint32 [2, B].
        states: int32 [T, B].
        lengths: int32 [B].
        seen: int32 [S, B], -1 is none.
        window: int32 [<= W, B], -1 for none.
    """

    keys: jax.Array
    states: jax.Array
    lengths: jax.Array
    seen: jax.Array
    window: jax.Array

    def at(self, rows: jax.Array) -> _Block:
        """Returns some rows int32 [n]; those out of range come with length 0."""
        block = jax.tree.map(lambda part: part.at[..., rows].get(mode="clip"), self)
        kept = rows < self.lengths.shape[0]
        return dataclasses.replace(block, lengths=jnp.where(kept, block.lengths, 0))


def _by_length(
    draw_block: Callable[[_Block], tuple[jax.Array, jax.Array]], block: _Block
) -> tuple[jax.Array, jax.Array]:
    """Draws rows of like length together, a cache-full at a time, so that few steps are idle."""
    num_rows, size = block.lengths.shape[0], _BLOCK_ROWS
    num_blocks = -(-num_rows // size)
    order = jnp.argsort(block.lengths)
    spare = jnp.full(num_blocks * size - num_rows, num_rows, order.dtype)
    rows = jnp.concatenate([order, spare]).reshape(num_blocks, size)
    items, lengths = jax.lax.map(lambda rows: draw_block(block.at(rows)), rows)
    places = jnp.zeros(num_rows, jnp.int32).at[order].set(jnp.arange(num_rows, dtype=jnp.int32))
    items = jnp.swapaxes(items, 0, 1).reshape(items.shape[1], -1)
    return items.at[:, places].get(mode="clip"), take_rows(lengths.reshape(-1), places)


def _draw_in_order(
    tables: SamplingTables, block: _Block, no_repeats: bool
) -> tuple[jax.Array, jax.Array]:
    """Draws the items int32 [T, B] of a block one after another, up to its longest row."""
    num_steps, num_rows = block.states.shape
    offset, num_chunks = block.seen.shape[0], -(-num_steps // _CHUNK_STEPS)
    grid = jnp.zeros((num_chunks * _CHUNK_STEPS, num_rows), jnp.int32)
    seen = jnp.concatenate([block.seen, grid - 1]) if no_repeats else block.seen
    words, purposes = RowWords(block.keys.T), _item_purposes(tables)

    def step(time: jax.Array, word: Words, carry: _Carry) -> _Carry:
        recent, seen, lengths, items = carry
        state = jax.lax.dynamic_index_in_dim(block.states, time, keepdims=False)
        item = _draw_item(tables, state, recent, word)
        if no_repeats:
            active = time < lengths
            place = _Place(state, recent, seen, block.keys, time)
            item, is_new = _draw_new(tables, place, item, active)
            lengths = jnp.where(active & ~is_new, time, lengths)
            row = jnp.where(time < lengths, item, -1)[None]
            seen = jax.lax.dynamic_update_slice_in_dim(seen, row, offset + time, axis=0)
        items = jax.lax.dynamic_update_slice_in_dim(items, item[None], time, axis=0)
        return recent.followed_by(tables, item), seen, lengths, items

    def chunk(number: jax.Array, carry: _Carry) -> _Carry:
        times = number * _CHUNK_STEPS + jnp.arange(_CHUNK_STEPS, dtype=jnp.int32)
        grid = words.words(purposes, times[:, None])  # hashed together: far cheaper than one by one

        def take_step(place: jax.Array, carry: _Carry) -> _Carry:
            word = {name: jnp.take(grid[name], place, axis=0) for name in purposes}
            return step(times[place], word, carry)

        return jax.lax.fori_loop(0, _CHUNK_STEPS, take_step, carry)

    carry = (_Recent.of(tables, block.window), seen, block.lengths, grid)
    steps = -(-block.lengths.max() // _CHUNK_STEPS)
    _, _, lengths, items = jax.lax.fori_loop(0, steps, chunk, carry)
    return items[:num_steps], lengths


def draw_candidates(
    tables: SamplingTables,
    words: RowWords,
    state: jax.Array,
    window: jax.Array,
    time: jax.Array,
    num_candidates: int,
) -> jax.Array:
    """Draws M = num_candidates (static) items for one place of every row, int32 [M, B].

    Args:
        tables: what to draw from.
        words: random words; candidate m is the draw that `draw_items` makes at attempt m.
        state: int32 [B].
        window: int32 [W, B], previous items, newest first, -1 for none.
        time: int32 [].
        num_candidates: static.
    """
    every = RowWords(jnp.tile(words.keys, (num_candidates, 1)))
    attempt = jnp.repeat(jnp.arange(num_candidates, dtype=jnp.int32), state.shape[0])
    word = every.words(_item_purposes(tables), time, attempt)
    recent = _Recent.of(tables, jnp.tile(window, (1, num_candidates)))
    items = _draw_item(tables, jnp.tile(state, num_candidates), recent, word)
    return items.reshape(num_candidates, -1)


def _item_purposes(tables: SamplingTables) -> tuple[str, ...]:
    """What the draw of an item reads of the words."""
    category = () if tables.members is None else ("category",)
    mix = () if tables.kernel is None else ("mix",)
    return ("item", "accept", *category, *mix)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Recent:
    """The last W items int32 [W, B], newest first, and whether each leads on by the kernel."""

    items: jax.Array
    usable: jax.Array

    @classmethod
    def of(cls, tables: SamplingTables, window: jax.Array) -> _Recent:
        """Returns the window int32 [<= W, B], -1 for no item."""
        width = 0 if tables.kernel is None else tables.kernel.lags.shape[0]
        none = jnp.full((width, window.shape[1]), -1, jnp.int32)
        items = jnp.concatenate([window, none])[:width]
        return cls(items, (items >= 0) & _leads_on(tables, items))

    def followed_by(self, tables: SamplingTables, item: jax.Array) -> _Recent:
        """Returns the window after one more item [B]."""
        width = self.items.shape[0]
        items = jnp.concatenate([item[None], self.items])[:width]
        usable = jnp.concatenate([_leads_on(tables, item)[None], self.usable])[:width]
        return _Recent(items, usable)

    def choose(self, lags: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws one of the usable items by the weights of their lags; returns it and if any is."""
        total = jnp.where(self.usable, lags[:, None], 0.0).sum(0)
        left, chosen = uniform * total, jnp.zeros_like(self.items[0])
        for item, usable, lag in zip(self.items, self.usable, lags, strict=True):
            chosen = jnp.where(usable & (left >= 0), item, chosen)
            left -= jnp.where(usable, lag, 0.0)
        return chosen, total > 0


def _leads_on(tables: SamplingTables, items: jax.Array) -> jax.Array:
    if tables.kernel is None:
        return jnp.zeros(items.shape, bool)
    return take_rows(tables.kernel.usable, jnp.maximum(items, 0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Place:
    """Where an item is being drawn: state [B], recent, seen [S, B], keys [2, B], time []."""

    state: jax.Array
    recent: _Recent
    seen: jax.Array
    keys: jax.Array
    time: jax.Array

    def at(self, rows: jax.Array) -> _Place:
        """Returns the places of some rows int32 [n]."""
        state, recent, seen, keys = jax.tree.map(
            lambda part: part.at[..., rows].get(mode="clip"),
            (self.state, self.recent, self.seen, self.keys),
        )
        return _Place(state, recent, seen, keys, self.time)

    def has_seen(self, item: jax.Array) -> jax.Array:
        """Returns bool [B], whether an item [B] came before."""
        return (self.seen == item[None]).any(0)


def _draw_new(
    tables: SamplingTables, place: _Place, item: jax.Array, active: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws again where an active row has seen its item; returns items [B], and whether new.

    A row's item does not depend on the others: it is that of its own first attempt to bring a new
    one. Only rows still open are drawn again, a share of the batch at a time; fewer at the end.
    """
    tries = (jnp.ones_like(item), item, ~place.has_seen(item))
    for share in _RETRY_SHARES:
        num = max(1, item.shape[0] // share)
        enough = num // 2 if share < _RETRY_SHARES[-1] else 0  # the next share does the rest

        def is_open(tries: Tries, enough: int = enough) -> jax.Array:
            return _open_rows(tries, active).sum() > enough

        def draw_again(tries: Tries, num: int = num) -> Tries:
            attempt, item, is_new = tries
            rows = jnp.nonzero(_open_rows(tries, active), size=num, fill_value=item.shape[0])[0]
            here, number = place.at(rows), take_rows(attempt, rows)
            word = RowWords(here.keys.T).words(_item_purposes(tables), place.time, number)
            other = _draw_item(tables, here.state, here.recent, word)
            return (
                attempt.at[rows].add(1, mode="drop"),
                item.at[rows].set(other, mode="drop"),
                is_new.at[rows].set(~here.has_seen(other), mode="drop"),
            )

        tries = jax.lax.while_loop(is_open, draw_again, tries)
    return tries[1], tries[2]


def _open_rows(tries: Tries, active: jax.Array) -> jax.Array:
    attempt, _, is_new = tries
    return active & ~is_new & (attempt < MAX_TRIES)


def _draw_item(tables: SamplingTables, state: jax.Array, recent: _Recent, word: Words) -> jax.Array:
    """Draws one item per row [B]: by the kernel from a previous item, or by the state alone."""
    own = _draw_own(tables, state, word)
    kernel = tables.kernel
    if kernel is None:
        return own
    # the kernel and the state's own table never both decide, so they may share words
    previous, any_leads_on = recent.choose(kernel.lags, as_uniform(word["accept"]))
    by_kernel = (word["mix"] < take_rows(kernel.mix, state)) & any_leads_on
    return jnp.where(by_kernel, kernel.draw(previous, word["item"]), own)


def _draw_own(tables: SamplingTables, state: jax.Array, word: Words) -> jax.Array:
    """Draws items from the states' own distributions; any shape."""
    if tables.members is None:
        return tables.items.draw(state, word["item"], word["accept"])
    category = tables.items.draw(state, word["category"])
    member = tables.members.draw(category, word["item"], word["accept"])
    return take_rows(tables.member_items, take_rows(tables.members.starts, category) + member)
