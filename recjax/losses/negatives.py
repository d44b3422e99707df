"""Negatives for sampled losses: item ids drawn per row from a proposal with known probabilities.

Ids are drawn with replacement. They count from the most frequent item of the training part on (see
`recjax.data.vocabulary`), so that a proposal by popularity needs no table. Called by
`recjax.losses.catalogue`.
"""

import math

import jax
import jax.numpy as jnp

PROPOSALS = ("uniform", "log_uniform")


def draw_negatives(
    keys: jax.Array, count: int, *, num_ids: int, proposal: str, num_specials: int = 5
) -> tuple[jax.Array, jax.Array]:
    """Draws `count` items per row, and says how often each is expected.

    Args:
        keys: typed PRNG keys [B]; row b depends on keys[b] only.
        count: K, draws per row (static).
        num_ids: ids num_specials .. num_ids - 1 are items (static).
        proposal: "uniform", or "log_uniform": octaves of the popularity rank (1, 2-3, 4-7, ...)
            are equally likely, and so are the items of one; near to Zipf's law, and exact in
            the tail, where the inverse of one float32 uniform would skip items (static).
        num_specials: ids below it are never drawn (static).

    Returns:
        ids int32 [B, K], and the logarithm of each id's expected number of draws per row,
        log(K q(id)), float32 [B, K].

    Raises:
        ValueError: for an unknown proposal.
    """
    num_items = num_ids - num_specials
    if proposal == "uniform":
        ids = jax.vmap(lambda key: jax.random.randint(key, (count,), num_specials, num_ids))(keys)
        return ids, jnp.full(ids.shape, math.log(count / num_items), jnp.float32)
    if proposal != "log_uniform":
        raise ValueError(f"proposal must be one of {', '.join(PROPOSALS)}, got {proposal!r}")
    ranks, log_q = jax.vmap(lambda key: _log_uniform(key, count, num_items))(keys)
    return ranks - 1 + num_specials, math.log(count) + log_q


def _log_uniform(key: jax.Array, count: int, num_items: int) -> tuple[jax.Array, jax.Array]:
    """Draws ranks int32 [K] in 1 .. num_items with their log-probabilities float32 [K]."""
    octave_key, rank_key = jax.random.split(key)
    num_octaves = math.log2(num_items + 1)  # the last one is cut where the catalogue ends
    draw = jax.random.uniform(octave_key, (count,)) * num_octaves
    octave = jnp.minimum(draw.astype(jnp.int32), math.ceil(num_octaves) - 1)
    first = jnp.left_shift(1, octave)
    end = jnp.minimum(2 * first, num_items + 1)
    ranks = jax.random.randint(rank_key, (count,), first, end)
    share = jnp.minimum(1.0, num_octaves - octave) / num_octaves
    return ranks, jnp.log(share) - jnp.log((end - first).astype(jnp.float32))
