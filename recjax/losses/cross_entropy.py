"""Full softmax cross-entropy over the catalogue, with memory independent of tokens x items.

Logits exist for one chunk of items at a time: the forward pass keeps a running log-sum-exp, the
backward pass computes each chunk's logits again (four matrix products instead of three, and no
[N, V] array is ever written). Chunks that fit the cache make it faster than the dense form too.
Sampled losses do not live here. Called by `recjax.tasks`.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from recjax.models.item_axis import ItemAxis

_NEGATIVE = -1e30  # finite: a masked logit must not make NaN of an empty running maximum
_Carry = TypeVar("_Carry")
_Gradients = tuple[jax.Array, jax.Array, jax.Array]


def chunked_cross_entropy(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    targets: jax.Array,
    weights: jax.Array,
    *,
    chunk: int,
    num_specials: int = 5,
) -> tuple[jax.Array, jax.Array]:
    """Returns the weighted sum of -log softmax(hidden @ table^T + bias)[target] and its weight.

    Items below `num_specials` ([PAD] to [MASK]) take no part in the softmax; rows whose target is
    one of them get weight 0. Differentiable in hidden, table, bias and weights; works under vmap,
    rows sharded over a mesh stay where they are, and a table cut over devices is not gathered: see
    `recjax.models.item_axis`.

    Args:
        hidden: float32 or bfloat16 [N, D]; matrix products run in this dtype, sums in float32.
        table: float32 [V, D], item embeddings.
        bias: float32 [V] or None.
        targets: int32 [N], item ids.
        weights: float32 [N], 0 for rows without a target.
        chunk: most items whose logits exist at once (static); [N, chunk] floats of memory. About
            a thousand is best on a CPU, more on an accelerator.
        num_specials: ids 0 .. num_specials - 1 are not items (static).

    Returns:
        (sum, weight): float32 scalars, nats and sum of the weights used.

    Raises:
        ValueError: if chunk < 1 or shapes do not fit together.

    Reference:
        Milakov and Gimelshein (2018), "Online normalizer calculation for softmax".

    Example:
        >>> total, weight = chunked_cross_entropy(
        ...     jnp.zeros((2, 4)), jnp.ones((8, 4)), None, jnp.array([5, 0]), jnp.ones(2), chunk=2
        ... )
        >>> round(float(total), 4), float(weight)  # log(3 items); the [PAD] target is left out
        (1.0986, 1.0)
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 item, got {chunk}")
    if hidden.ndim != 2 or table.ndim != 2 or hidden.shape[1] != table.shape[1]:
        raise ValueError(f"hidden [N, D] and table [V, D] needed: {hidden.shape}, {table.shape}")
    if table.shape[0] <= num_specials:
        raise ValueError(f"a table of {table.shape[0]} rows holds no items beside the specials")
    if bias is None:
        bias = jnp.zeros(table.shape[0], jnp.float32)
    weights = jnp.where(targets >= num_specials, weights, 0).astype(jnp.float32)
    axis = ItemAxis.in_force()
    total = _weighted_sum(hidden, table, bias, targets, weights, chunk, num_specials, axis)
    return total, weights.sum()


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _weighted_sum(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    chunk: int,
    num_specials: int,
    axis: ItemAxis,
) -> jax.Array:
    return _forward(hidden, table, bias, targets, weights, chunk, num_specials, axis)[0]


def _forward(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    chunk: int,
    num_specials: int,
    axis: ItemAxis,
) -> tuple[jax.Array, tuple]:
    part = functools.partial(_log_likelihood_part, chunk, num_specials, axis)
    log_normaliser, target_logits = axis.split(part, "bttb", "bb")(hidden, table, bias, targets)
    losses = jnp.where(weights > 0, log_normaliser - target_logits, 0)
    return (losses * weights).sum(), (hidden, table, bias, targets, weights, log_normaliser, losses)


def _backward(
    chunk: int, num_specials: int, axis: ItemAxis, saved: tuple, cotangent: jax.Array
) -> tuple:
    """Gradient chunk by chunk: (softmax - one-hot) x weight, from recomputed logits."""
    hidden, table, bias, targets, weights, log_normaliser, losses = saved
    part = functools.partial(_gradient_part, chunk, num_specials, axis)
    d_hidden, d_table, d_bias = axis.split(part, "bttbbb", "btt")(
        hidden, table, bias, targets, weights * cotangent, log_normaliser
    )
    return (
        d_hidden.astype(hidden.dtype),
        d_table.astype(table.dtype),
        d_bias.astype(bias.dtype),
        None,
        losses * cotangent,
    )


def _log_likelihood_part(
    chunk: int,
    num_specials: int,
    axis: ItemAxis,
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One pass over the chunks with a running maximum and a running sum of exponentials."""
    first_row = axis.first_row(len(table))
    hidden, targets = axis.gather(hidden), axis.gather(targets) - first_row

    def add_chunk(
        carry: tuple[jax.Array, jax.Array], start: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        high, total = carry
        logits = _chunk_logits(hidden, table, bias, start, first, chunk)
        new_high = jnp.maximum(high, logits.max(axis=-1))
        total = total * jnp.exp(high - new_high)
        return new_high, total + jnp.exp(logits - new_high[:, None]).sum(axis=-1)

    empty = jnp.full(len(hidden), _NEGATIVE), jnp.zeros(len(hidden))
    high, total = _over_chunks(add_chunk, empty, len(table), chunk, num_specials - first_row)
    highest = axis.max_over_table(high)
    total = axis.sum_over_table(total * jnp.exp(high - highest))
    rows = jnp.take(table, targets, axis=0, mode="clip").astype(hidden.dtype).astype(jnp.float32)
    target_logits = (hidden.astype(jnp.float32) * rows).sum(axis=-1)
    target_logits += jnp.take(bias, targets, mode="clip")
    mine = (targets >= 0) & (targets < len(table))
    target_logits = axis.sum_over_table(jnp.where(mine, target_logits, 0))
    return axis.own(highest + jnp.log(total)), axis.own(target_logits)


def _gradient_part(
    chunk: int,
    num_specials: int,
    axis: ItemAxis,
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    scale: jax.Array,
    log_normaliser: jax.Array,
) -> _Gradients:
    """Gradients of hidden, table and bias, summed over the devices that answer for a part."""
    first_row = axis.first_row(len(table))
    hidden, scale, log_normaliser = map(axis.gather, (hidden, scale, log_normaliser))
    targets = axis.gather(targets) - first_row

    def add_chunk(carry: _Gradients, start: jax.Array, first: jax.Array) -> _Gradients:
        d_hidden, d_table, d_bias = carry
        logits = _chunk_logits(hidden, table, bias, start, first, chunk)
        ids = _chunk_ids(start, table.shape[0], chunk)
        # An item that an earlier chunk also covers (the last one overlaps) counts there only.
        is_target = (ids[None, :] == targets[:, None]) & (ids >= first)[None, :]
        delta = jnp.exp(logits - log_normaliser[:, None]) - is_target
        delta = (delta * scale[:, None]).astype(hidden.dtype)
        rows = _slice(table, start, chunk).astype(hidden.dtype)
        d_rows = _matmul(delta.T, hidden)
        d_biases = delta.astype(jnp.float32).sum(axis=0)
        d_table = _add_slice(d_table, d_rows, start)
        return d_hidden + _matmul(delta, rows), d_table, _add_slice(d_bias, d_biases, start)

    empty = (
        jnp.zeros(hidden.shape, jnp.float32),
        jnp.zeros(table.shape, jnp.float32),
        jnp.zeros(bias.shape, jnp.float32),
    )
    specials = num_specials - first_row
    d_hidden, d_table, d_bias = _over_chunks(add_chunk, empty, len(table), chunk, specials)
    return axis.scatter_sum(d_hidden), axis.sum_over_batch(d_table), axis.sum_over_batch(d_bias)


_weighted_sum.defvjp(_forward, _backward)


def _over_chunks(
    add_chunk: Callable[[_Carry, jax.Array, jax.Array], _Carry],
    carry: _Carry,
    num_rows: int,
    chunk: int,
    num_specials: int | jax.Array,
) -> _Carry:
    """Runs add_chunk(carry, start, first new id) over equal chunks; the last one may overlap."""
    size = _chunk_size(num_rows, chunk)
    num_chunks = -(-num_rows // size)
    if num_chunks == 1:
        return add_chunk(carry, jnp.int32(0), jnp.asarray(num_specials, jnp.int32))

    def body(index: jax.Array, carry: _Carry) -> _Carry:
        start = jnp.minimum(index * size, num_rows - size)
        return add_chunk(carry, start, jnp.maximum(index * size, num_specials))

    return jax.lax.fori_loop(0, num_chunks, body, carry)


def _chunk_size(num_rows: int, chunk: int) -> int:
    """Splits the rows evenly, so that the last chunk is not mostly overlap."""
    num_chunks = -(-num_rows // chunk)
    return -(-num_rows // num_chunks)


def _chunk_ids(start: jax.Array, num_rows: int, chunk: int) -> jax.Array:
    return start + jnp.arange(_chunk_size(num_rows, chunk), dtype=jnp.int32)


def _slice(values: jax.Array, start: jax.Array, chunk: int) -> jax.Array:
    size = _chunk_size(values.shape[0], chunk)
    return jax.lax.dynamic_slice_in_dim(values, start, size) if size < len(values) else values


def _add_slice(total: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    if len(part) == len(total):
        return total + part
    old = jax.lax.dynamic_slice_in_dim(total, start, len(part))
    return jax.lax.dynamic_update_slice_in_dim(total, old + part, start, 0)


def _chunk_logits(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    start: jax.Array,
    first: jax.Array,
    chunk: int,
) -> jax.Array:
    """Logits float32 [N, size] of the items from `start`; ids below `first` are masked out."""
    rows = _slice(table, start, chunk).astype(hidden.dtype)
    ids = _chunk_ids(start, table.shape[0], chunk)
    # Masking the bias [size] instead of the logits [N, size] saves a pass over the large array.
    masked_bias = jnp.where(ids >= first, _slice(bias, start, chunk), _NEGATIVE)
    return _matmul(hidden, rows.T) + masked_bias[None, :]


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)
