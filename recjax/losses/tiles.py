"""Walks over the logits [N, V] of a large catalogue tile by tile, so that they never exist at once.

A tile is a block of tokens by a chunk of items. Only tokens that carry weight are visited. Called
by `recjax.losses.cross_entropy`.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

_LANES = 128  # matrix units, vector units and caches want sizes that are multiples of it
_Carry = TypeVar("_Carry")


def over_tokens(
    add_block: Callable[[_Carry, jax.Array], _Carry],
    carry: _Carry,
    weights: jax.Array,
    block: int,
) -> _Carry:
    """Runs add_block(carry, rows) over blocks of the tokens that carry weight, in their order.

    Args:
        add_block: rows int32 [S], S <= block: numbers of tokens; the last block is filled up with
            tokens of weight 0 and with the number N, which is none.
        carry: tree of arrays.
        weights: float32 [N], at least 0.
        block: most tokens of one block (static).
    """
    num_tokens = len(weights)
    size = chunk_size(num_tokens, block)
    order = jnp.argsort(weights == 0, stable=True).astype(jnp.int32)
    order = jnp.pad(order, (0, -num_tokens % size), constant_values=num_tokens)
    num_blocks = -(-(weights != 0).sum(dtype=jnp.int32) // size)

    def body(index: jax.Array, carry: _Carry) -> _Carry:
        return add_block(carry, jax.lax.dynamic_slice_in_dim(order, index * size, size))

    return cast(_Carry, jax.lax.fori_loop(0, _largest(num_blocks), body, carry))


@custom_vmap
def _largest(count: jax.Array) -> jax.Array:
    """The largest of a count under vmap: members then share one loop, whose carry stays in place.

    With a bound of their own each, every member's whole carry would be copied in every step.
    """
    return count


@_largest.def_vmap
def _largest_of_members(axis_size: int, is_mapped: list[bool], counts: jax.Array) -> tuple:
    del axis_size, is_mapped
    return counts.max(), False


def over_items(
    add_chunk: Callable[[_Carry, jax.Array, jax.Array], _Carry],
    carry: _Carry,
    num_rows: int,
    chunk: int,
    num_specials: int | jax.Array,
) -> _Carry:
    """Runs add_chunk(carry, start, first new id) over equal chunks; the last one may overlap.

    Args:
        add_chunk: takes the chunk's first item and the first that no earlier chunk had, int32
            scalars.
        carry: tree of arrays.
        num_rows: items V (static).
        chunk: most items of one chunk (static).
        num_specials: items below it are never new; scalar.
    """
    size = chunk_size(num_rows, chunk)
    num_chunks = -(-num_rows // size)
    if num_chunks == 1:
        return add_chunk(carry, jnp.int32(0), jnp.asarray(num_specials, jnp.int32))

    def body(index: jax.Array, carry: _Carry) -> _Carry:
        start = jnp.minimum(index * size, num_rows - size)
        return add_chunk(carry, start, jnp.maximum(index * size, num_specials))

    return jax.lax.fori_loop(0, num_chunks, body, carry)


def chunk_size(num_rows: int, chunk: int) -> int:
    """Splits the rows evenly, so that the last chunk is not mostly overlap, at whole lanes."""
    even = -(-num_rows // -(-num_rows // chunk))
    return min(-(-even // _LANES) * _LANES, chunk, num_rows)


def chunk_ids(start: jax.Array, num_rows: int, chunk: int) -> jax.Array:
    """Returns the items int32 [size] of the chunk that begins at `start`."""
    return start + jnp.arange(chunk_size(num_rows, chunk), dtype=jnp.int32)


def take_slice(values: jax.Array, start: jax.Array, chunk: int) -> jax.Array:
    """Returns the chunk of values [V, ...] that begins at `start`."""
    size = chunk_size(values.shape[0], chunk)
    return jax.lax.dynamic_slice_in_dim(values, start, size) if size < len(values) else values


def add_slice(total: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    """Adds a chunk [..., size] to the total [..., V] from `start` on."""
    if part.shape == total.shape:
        return total + part
    size = part.shape[-1]
    old = jax.lax.dynamic_slice_in_dim(total, start, size, axis=-1)
    return jax.lax.dynamic_update_slice_in_dim(total, old + part, start, axis=-1)
