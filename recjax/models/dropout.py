"""Random numbers per row: dropout whose mask depends on (row key, site) and on nothing else.

The trainer derives one key per row from (run key, step, global row), so every engine and device
count draws the same masks, and a row's mask does not change with the rest of its batch. A site is
a number per call (embedding, layer and place in it). Called by `recjax.models`, `recjax.tasks`.
"""

import math

import jax
import jax.numpy as jnp

_SEED_SITE = 1 << 30
_GOLDEN = 0x9E3779B9  # odd, so that sites map to different words


def fold_in_rows(keys: jax.Array, site: int) -> jax.Array:
    """Returns keys [B] for one site of use; equal (key, site) give equal keys."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, site)


def row_uniform(keys: jax.Array, site: int, shape: tuple[int, ...]) -> jax.Array:
    """Draws float32 [B, *shape] in [0, 1); row b depends on (keys[b], site) only."""
    draw = jax.vmap(lambda key: jax.random.uniform(key, shape))
    return draw(fold_in_rows(keys, site))


def row_bits(keys: jax.Array, site: int | jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws uint32 [B, *shape] from a counter hash seeded by threefry; for dropout only.

    Threefry gives two words per row, once for all sites; element i is a counter mixed with the
    site and both words. That is about six instructions an element, all of which fuse with the use
    of the bits; drawing every element by threefry took five times as long on a CPU (and every
    further threefry call adds to the time of compilation).

    Args:
        keys: typed PRNG keys [B].
        site: number of the call site; scalar.
        shape: of one row (static).

    Returns:
        uint32 [B, *shape]; row b depends on (keys[b], site) only.

    Reference:
        Wellons (2018), "Prospecting for Hash Functions", lowbias32.
    """
    seeds = jax.vmap(lambda key: jax.random.bits(key, (2,)))(fold_in_rows(keys, _SEED_SITE))
    seeds = _mix(seeds + jnp.asarray(site, jnp.uint32) * jnp.uint32(_GOLDEN))
    seeds = seeds.reshape(len(keys), 2, *(1 for _ in shape))
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(1, *shape)
    counter = jnp.broadcast_to(counter, (len(keys), *shape))
    return _mix(_mix(counter + seeds[:, 0]) ^ seeds[:, 1])


def dropout(
    x: jax.Array, rate: float, keys: jax.Array | None, *, site: int | jax.Array
) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the others by 1 / (1 - rate).

    Args:
        x: float [B, ...].
        rate: share of elements dropped, 0 <= rate < 1 (static).
        keys: typed PRNG keys [B], or None for no dropout.
        site: number of the call site; scalar.

    Returns:
        float [B, ...]; x itself when keys is None or rate is 0.

    Raises:
        ValueError: if rate is outside [0, 1).

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> dropout(jnp.ones((2, 4)), 0.0, keys, site=1).tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate must be in [0, 1), got {rate}")
    if keys is None or rate == 0:
        return x
    bits = row_bits(keys, site, x.shape[1:])
    keep = bits >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x * jnp.asarray(1 / (1 - rate), x.dtype), jnp.zeros((), x.dtype))


def _mix(word: jax.Array) -> jax.Array:
    """Permutes uint32 so that each input bit flips each output bit about half of the time."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)
