"""How one batch of rows is drawn: states in time, then actions, gaps and items given the states.

Pure and traced; arrays are time-major [T, B]. Every choice reads its own random word of
(row, time), see `words`. Called by `sampling` only.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from recjax.hmm.events import take_rows
from recjax.hmm.recursions import draw_index
from recjax.hmm.tables import KernelTables, SamplingTables
from recjax.hmm.words import RowWords, as_uniform

MAX_TRIES = 32  # draws of an item that is new to its user, before the sequence ends instead

Word = Callable[[str], jax.Array]
Tries = tuple[jax.Array, jax.Array, jax.Array]  # number, item [B], whether it is new [B]


def draw_states(
    tables: SamplingTables, words: RowWords, first: jax.Array, alive: jax.Array, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Draws states int32 [T, B] from given first ones, and lengths int32 [B] by the stop.

    Rows that are not alive get length 0; states beyond the length mean nothing.
    """
    stop = tables.params.num_states

    def step(
        carry: tuple[jax.Array, jax.Array], time: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        state, alive = carry
        after = tables.move.draw(state, words.word("move", time))
        moved = (jnp.minimum(after, stop - 1), alive & (after != stop))
        return moved, (state, alive)

    times = jnp.arange(num_steps, dtype=jnp.int32)
    _, (states, alive) = jax.lax.scan(step, (first, alive), times)
    return states, alive.sum(0, dtype=jnp.int32)


def draw_context(
    tables: SamplingTables, words: RowWords, states: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws actions and gap bins int32 [T, B]."""
    times = jnp.arange(states.shape[0], dtype=jnp.int32)[:, None]
    sizes = tables.params.sizes
    actions, gaps = jnp.zeros_like(states), jnp.zeros_like(states)
    if sizes.num_actions > 1:
        actions = tables.action.draw(states, words.word("action", times))
    if sizes.num_gap_bins > 1:
        gaps = tables.gap.draw(states, words.word("gap", times))
    return actions, gaps


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
    num_steps, num_rows = states.shape
    times = jnp.arange(num_steps, dtype=jnp.int32)
    if tables.kernel is None and not no_repeats:
        return _draw_own(tables, states, lambda name: words.word(name, times[:, None])), lengths
    width = 0 if tables.kernel is None else tables.kernel.lags.shape[0]
    if window is None:
        window = jnp.full((num_rows, width), -1, jnp.int32)
    offset = seen.shape[1]
    if no_repeats:
        seen = jnp.concatenate([seen, jnp.full((num_rows, num_steps), -1, jnp.int32)], axis=1)

    def step(
        carry: tuple[jax.Array, jax.Array, jax.Array], event: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        window, seen, lengths = carry
        time, state = event
        if no_repeats:
            active = time < lengths
            item, is_new = _draw_new(tables, words, state, window, seen, active, time)
            lengths = jnp.where(active & ~is_new, time, lengths)
            column = jnp.where(time < lengths, item, -1)[:, None]
            seen = jax.lax.dynamic_update_slice_in_dim(seen, column, offset + time, axis=1)
        else:
            item = _draw_item(tables, state, window, lambda name: words.word(name, time))
        window = jnp.concatenate([item[:, None], window], axis=1)[:, :width]
        return (window, seen, lengths), item

    (_, _, lengths), items = jax.lax.scan(step, (window, seen, lengths), (times, states))
    return items, lengths


def _draw_new(
    tables: SamplingTables,
    words: RowWords,
    state: jax.Array,
    window: jax.Array,
    seen: jax.Array,
    active: jax.Array,
    time: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Draws until no active row has an item it has seen; returns items [B], and whether new.

    A row's item does not depend on the others: it is that of its own first attempt to bring a new
    one.
    """

    def is_open(carry: Tries) -> jax.Array:
        attempt, _, new = carry
        return (attempt < MAX_TRIES) & (active & ~new).any()

    def try_again(carry: Tries) -> Tries:
        attempt, item, new = carry
        other = _draw_item(tables, state, window, lambda name: words.word(name, time, attempt))
        item = jnp.where(new, item, other)
        return attempt + 1, item, new | ~(seen == other[:, None]).any(1)

    start = (jnp.asarray(0, jnp.int32), jnp.zeros_like(state), jnp.zeros_like(active))
    _, item, new = jax.lax.while_loop(is_open, try_again, start)
    return item, new


def _draw_item(
    tables: SamplingTables, state: jax.Array, window: jax.Array, word: Word
) -> jax.Array:
    """Draws one item per row [B]: by the kernel from a previous item, or by the state alone."""
    own = _draw_own(tables, state, word)
    kernel = tables.kernel
    if kernel is None:
        return own
    share = _lag_shares(kernel, window)
    choice = draw_index(share, as_uniform(word("accept")))
    row = jnp.take_along_axis(window, choice[:, None], axis=1)[:, 0]
    linked = kernel.draw(jnp.maximum(row, 0), word("item"))
    by_kernel = (word("mix") < take_rows(kernel.mix, state)) & (share.sum(-1) > 0)
    return jnp.where(by_kernel, linked, own)


def _lag_shares(kernel: KernelTables, window: jax.Array) -> jax.Array:
    """Odds [B, W] of following each previous item; 0 where there is none or it leads nowhere."""
    usable = (window >= 0) & take_rows(kernel.usable, jnp.maximum(window, 0))
    return jnp.where(usable, kernel.lags[None, :], 0.0)


def _draw_own(tables: SamplingTables, state: jax.Array, word: Word) -> jax.Array:
    """Draws items from the states' own distributions; any shape."""
    if tables.members is None:
        return tables.items.draw(state, word("item"), word("accept"))
    category = tables.items.draw(state, word("category"))
    member = tables.members.draw(category, word("item"), word("accept"))
    return take_rows(tables.member_items, take_rows(tables.members.starts, category) + member)
