"""How one batch of rows is drawn: states in time, then actions and gaps given the states.

Pure and traced; arrays are time-major [T, B]. Every choice reads its own random word of
(row, time), see `words`. Items are drawn in `item_draws`. Called by `sampling`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.hmm.tables import SamplingTables
from recjax.hmm.words import RowWords


def draw_states(
    tables: SamplingTables, words: RowWords, first: jax.Array, alive: jax.Array, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Draws states int32 [T, B] from given first ones, and lengths int32 [B] by the stop.

    Rows that are not alive get length 0; states beyond the length mean nothing.
    """
    stop = tables.params.num_states

    def step(
        carry: tuple[jax.Array, jax.Array], word: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        state, alive = carry
        after = tables.move.draw(state, word)
        moved = (jnp.minimum(after, stop - 1), alive & (after != stop))
        return moved, (state, alive)

    times = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    _, (states, alive) = jax.lax.scan(step, (first, alive), words.word("move", times))
    return states, alive.sum(0, dtype=jnp.int32)


def draw_stays(
    tables: SamplingTables,
    words: RowWords,
    first: tuple[jax.Array, jax.Array],
    alive: jax.Array,
    num_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Draws what `draw_states` does, for a model with explicit durations.

    Apart from it, so that a chain without durations pays nothing. A stay that is entered at time t
    has its duration from the word "start" of t + 1, which nothing else reads.

    Args:
        tables: with a table of durations.
        words: random words.
        first: first states int32 [B], and events left in their stays after the first, int32 [B].
        alive: bool [B].
        num_steps: T, static.
    """
    stop, durations = tables.params.num_states, tables.duration
    assert durations is not None

    def step(
        carry: tuple[jax.Array, jax.Array, jax.Array], word: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        state, left, alive = carry
        after = tables.move.draw(state, word[0])
        over = left == 0
        moved = jnp.where(over, jnp.minimum(after, stop - 1), state)
        more = jnp.where(over, durations.draw(moved, word[1]), left - 1)
        return (moved, more, alive & ~(over & (after == stop))), (state, alive)

    times = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    read = (words.word("move", times), words.word("start", times + 2))
    _, (states, alive) = jax.lax.scan(step, (*first, alive), read)
    return states, alive.sum(0, dtype=jnp.int32)


def draw_context(
    tables: SamplingTables, words: RowWords, states: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws actions and gap bins int32 [T, B]."""
    times = jnp.arange(states.shape[0], dtype=jnp.int32)[:, None]
    sizes = tables.params.sizes
    actions, gaps = jnp.zeros_like(states), jnp.zeros_like(states)
    if sizes.num_actions == 1 and sizes.num_gap_bins == 1:
        return actions, gaps
    word = words.words(("action", "gap"), times)
    if sizes.num_actions > 1:
        actions = tables.action.draw(states, word["action"])
    if sizes.num_gap_bins > 1:
        gaps = tables.gap.draw(states, word["gap"])
    return actions, gaps
