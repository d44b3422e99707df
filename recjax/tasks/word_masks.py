"""Whole-word masks of tokenized texts, drawn on the device, row by row.

Called by `recjax.tasks.masked_text` and `recjax.tasks.joint_item_text`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.models import fold_in_rows, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.positions import select_smallest, take

SPECIAL, WORD, CONTINUATION = range(3)  # as in `recjax.data.corpus`; a test holds them together
_NEVER = 2.0  # a score no drawn one reaches
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1  # of the chosen words; the others stay as they are


class MaskedWords(NamedTuple):
    """Texts with some words hidden, and what was there.

    Attributes:
        tokens: int32 [N, L].
        positions: int32 [N, S], of the predicted tokens.
        targets: int32 [N, S], the tokens there.
        weights: float32 [N, S], 1 where a slot is used, else 0.
    """

    tokens: jax.Array
    positions: jax.Array
    targets: jax.Array
    weights: jax.Array


def mask_words(
    tokens: jax.Array, token_kind: jax.Array, keys: jax.Array, *, rate: float, mask_id: int
) -> MaskedWords:
    """Hides whole words.

    Words are drawn independently at `rate`, plus one in each text that got none; all pieces of a
    drawn word are predicted. Eight in ten drawn words are hidden behind [MASK], one behind random
    tokens, one stays (the rule is drawn by word, so that no piece gives its word away). A text has
    room for half as many tokens again as expected and a quarter of its length; words beyond that
    are left alone as wholes.

    Args:
        tokens: int32 [N, L].
        token_kind: int32 [W], `SPECIAL`, `WORD` or `CONTINUATION` by token id.
        keys: typed PRNG keys [N]; a text's mask depends on its key and tokens alone.
        rate: share of the words that are predicted, 0 < rate <= 1 (static).
        mask_id: token id of [MASK] (static).

    Reference:
        Devlin et al. (2019), "BERT", Sec. 3.1; whole words as in the BERT repository's release of
        May 2019.
    """
    length = tokens.shape[1]
    kind = jnp.take(token_kind, tokens, mode="clip")
    first = _first_pieces(kind)
    draw = take(row_uniform(keys, row_draws.MASK_CHOICE, (length,)), first)
    draw = jnp.where(kind == SPECIAL, _NEVER, draw)
    slots = min(length, math.ceil(length * min(1.0, 1.5 * rate + 0.25)))
    positions, chosen = select_smallest(_word_order(draw, rate, slots), _NEVER, slots)
    targets = take(tokens, positions)
    rule = take(take(row_uniform(keys, row_draws.MASK_RULE, (length,)), first), positions)
    shown = jnp.where(rule < _MASK_SHARE + _RANDOM_SHARE, _random(keys, token_kind, slots), targets)
    shown = jnp.where(rule < _MASK_SHARE, mask_id, shown)
    return MaskedWords(
        _put(tokens, positions, chosen, shown), positions, targets, chosen.astype(jnp.float32)
    )


def _first_pieces(kind: jax.Array) -> jax.Array:
    """Returns int32 [N, L]: where the word of each token starts; a cut-off word's rest is one."""
    before = jnp.pad(kind[:, :-1], ((0, 0), (1, 0)), constant_values=SPECIAL)
    starts = (kind != CONTINUATION) | (before == SPECIAL)
    steps = jnp.arange(kind.shape[1], dtype=jnp.int32)[None]
    return jax.lax.cummax(jnp.where(starts, steps, 0), axis=1)


def _word_order(draw: jax.Array, rate: float, slots: int) -> jax.Array:
    """Scores tokens by their word's draw; below 0 the text's smallest, else never without room."""
    smallest = draw.min(axis=1, keepdims=True)
    score = jnp.where(draw < rate, draw, _NEVER)
    score = jnp.where((draw == smallest) & (draw < _NEVER), draw - 1, score)
    up_to_word = (score[:, None, :] <= score[:, :, None]).sum(axis=-1)
    return jnp.where(up_to_word <= slots, score, _NEVER)


def _random(keys: jax.Array, token_kind: jax.Array, slots: int) -> jax.Array:
    """Draws tokens int32 [N, slots] of the whole vocabulary."""
    draw = jax.vmap(lambda key: jax.random.randint(key, (slots,), 0, len(token_kind), jnp.int32))
    return draw(fold_in_rows(keys, row_draws.MASK_ITEM))


def _put(tokens: jax.Array, positions: jax.Array, chosen: jax.Array, shown: jax.Array) -> jax.Array:
    """Writes `shown` [N, S] over tokens [N, L] at the chosen positions."""
    beyond = jnp.where(chosen, positions, tokens.shape[1])  # out of bounds: not written
    return jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))(tokens, beyond, shown)
