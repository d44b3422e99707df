"""Random draws of the tasks: a site number per use, and keys where a caller has none.

Every draw depends on (row key, site) only; equal sites would give two uses the same numbers. The
sites of dropout are below these (see `recjax.models.dropout`). Called by `recjax.tasks`.
"""

import jax
import jax.numpy as jnp

_FIRST_SITE = 1 << 21
(
    MASK_CHOICE,
    MASK_RULE,
    MASK_ITEM,
    NEGATIVES,
    REPLACE_CHOICE,
    REPLACE_ITEM,
    SEQUENCE_CHOICE,
    AUGMENTATION,
    SPAN,
    FOREIGN,
    *VIEWS,
    LATENT,
    DROPPED_EVENTS,
    NOISE,
    MIXTURE,
    VIRTUAL,
    VIRTUAL_ITEMS,
    FRESH_CHOICE,
    FRESH_USERS,
    PLAYED,
) = range(_FIRST_SITE, _FIRST_SITE + 21)

_FIRST_TEXT_SITE = 1 << 22
(
    MASKED_TEXT,
    JOINT_ITEM_TEXT,
    TEXT_ALIGNMENT,
    TITLES,
    DOCUMENTS,
    TEXTS,
    SIDES,
) = range(_FIRST_TEXT_SITE, _FIRST_TEXT_SITE + 7)


def content_keys(ids: jax.Array) -> jax.Array:
    """Makes one key per row [B] from ids int32 [B, T] alone: the same draws in any batch."""
    steps = jnp.arange(ids.shape[1], dtype=jnp.uint32)[None]
    word = (ids.astype(jnp.uint32) + 1) * (2 * steps + 1) * jnp.uint32(0x9E3779B1)
    word = word ^ (word >> 15)
    content = (word * jnp.uint32(0x85EBCA77)).sum(axis=1, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), content)
