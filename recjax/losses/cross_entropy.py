"""Full softmax cross-entropy over the catalogue, with memory independent of tokens x items.

Logits exist for one tile of tokens and items at a time (see `recjax.losses.tiles`): the forward
pass keeps a running log-sum-exp, the backward pass computes each tile's logits again (four matrix
products instead of three, and no [N, V] array is ever written). Tokens without weight, most of a
padded batch, cost nothing, and tiles that fit the cache make it faster than the dense form too.
Sampled losses do not live here. Called by `recjax.tasks`.
"""

import functools

import jax
import jax.numpy as jnp

from recjax.losses.tiles import (
    add_slice,
    chunk_ids,
    over_items,
    over_tokens,
    take_slice,
)
from recjax.models.item_axis import ItemAxis

_NEGATIVE = -1e30  # finite: a masked logit must not make NaN of an empty running maximum
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
        chunk: most items whose logits exist at once, for an eighth as many tokens (static); so
            chunk^2 / 8 floats of memory. About a thousand is best on a CPU, more on an accelerator.
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
    log_normaliser, target_logits = axis.split(part, "bttbb", "bb")(
        hidden, table, bias, targets, weights
    )
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
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Log-normalisers (inf without weight) and target logits, float32 [N] each."""
    first_row = axis.first_row(len(table))
    hidden, targets, weights = map(axis.gather, (hidden, targets, weights))
    specials = num_specials - first_row

    def add_block(carry: tuple, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        part = _log_sum_exp(_take(hidden, rows), table, bias, chunk, specials)
        high, total = (
            old.at[rows].set(new, mode="drop") for old, new in zip(carry, part, strict=True)
        )
        return high, total

    empty = jnp.full(len(hidden), _NEGATIVE), jnp.zeros(len(hidden))
    high, total = over_tokens(add_block, empty, weights, _block(chunk))
    highest = axis.max_over_table(high)
    total = axis.sum_over_table(total * jnp.exp(high - highest))
    log_normaliser = jnp.where(weights > 0, highest + jnp.log(total), jnp.inf)
    target_logits = _target_logits(axis, hidden, table, bias, targets - first_row)
    return axis.own(log_normaliser), axis.own(target_logits)


def _log_sum_exp(
    hidden: jax.Array, table: jax.Array, bias: jax.Array, chunk: int, specials: int | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One pass over the chunks with a running maximum and a running sum of exponentials."""

    def add_chunk(
        carry: tuple[jax.Array, jax.Array], start: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        high, total = carry
        logits = _chunk_logits(hidden, table, bias, start, first, chunk)
        new_high = jnp.maximum(high, logits.max(axis=-1))
        total = total * jnp.exp(high - new_high)
        return new_high, total + jnp.exp(logits - new_high[:, None]).sum(axis=-1)

    empty = jnp.full(len(hidden), _NEGATIVE), jnp.zeros(len(hidden))
    return over_items(add_chunk, empty, len(table), chunk, specials)


def _target_logits(
    axis: ItemAxis, hidden: jax.Array, table: jax.Array, bias: jax.Array, targets: jax.Array
) -> jax.Array:
    """Logits of targets, float32 [N]; each device answers for those among its rows."""
    rows = jnp.take(table, targets, axis=0, mode="clip").astype(hidden.dtype).astype(jnp.float32)
    logits = (hidden.astype(jnp.float32) * rows).sum(axis=-1)
    logits += jnp.take(bias, targets, mode="clip")
    mine = (targets >= 0) & (targets < len(table))
    return axis.sum_over_table(jnp.where(mine, logits, 0))


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

    def add_block(carry: _Gradients, rows: jax.Array) -> _Gradients:
        d_hidden, d_table, d_bias = carry
        inputs = _take(hidden, rows), _take(targets, rows), _take(scale, rows)
        normaliser = _take(log_normaliser, rows, jnp.inf)
        d_rows, d_table, d_bias = _block_gradient(
            (*inputs, normaliser), table, bias, (d_table, d_bias), chunk, num_specials - first_row
        )
        return d_hidden.at[rows].set(d_rows, mode="drop"), d_table, d_bias

    empty = (
        jnp.zeros(hidden.shape, jnp.float32),
        jnp.zeros(table.shape[::-1], jnp.float32),  # as columns: no tile has to be turned round
        jnp.zeros(bias.shape, jnp.float32),
    )
    d_hidden, d_table, d_bias = over_tokens(add_block, empty, scale, _block(chunk))
    d_table, d_bias = axis.sum_over_batch(d_table.T), axis.sum_over_batch(d_bias)
    return axis.scatter_sum(d_hidden), d_table, d_bias


def _block_gradient(
    block: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
    table: jax.Array,
    bias: jax.Array,
    totals: tuple[jax.Array, jax.Array],
    chunk: int,
    specials: int | jax.Array,
) -> _Gradients:
    """Gradient of hidden [S, D]; totals of table [D, V] and bias [V] with this block's added."""
    hidden, targets, scale, log_normaliser = block

    def add_chunk(carry: _Gradients, start: jax.Array, first: jax.Array) -> _Gradients:
        d_hidden, d_table, d_bias = carry
        logits = _chunk_logits(hidden, table, bias, start, first, chunk)
        ids = chunk_ids(start, table.shape[0], chunk)
        # An item that an earlier chunk also covers (the last one overlaps) counts there only.
        is_target = (ids[None, :] == targets[:, None]) & (ids >= first)[None, :]
        delta = jnp.exp(logits - log_normaliser[:, None]) - is_target
        delta = (delta * scale[:, None]).astype(hidden.dtype)
        rows = take_slice(table, start, chunk).astype(hidden.dtype)
        d_table = add_slice(d_table, _matmul(hidden.T, delta), start)
        d_bias = add_slice(d_bias, delta.astype(jnp.float32).sum(axis=0), start)
        return d_hidden + _matmul(delta, rows), d_table, d_bias

    empty = jnp.zeros(hidden.shape, jnp.float32)
    return over_items(add_chunk, (empty, *totals), len(table), chunk, specials)


_weighted_sum.defvjp(_forward, _backward)


def _chunk_logits(
    hidden: jax.Array,
    table: jax.Array,
    bias: jax.Array,
    start: jax.Array,
    first: jax.Array,
    chunk: int,
) -> jax.Array:
    """Logits float32 [N, size] of the items from `start`; ids below `first` are masked out."""
    rows = take_slice(table, start, chunk).astype(hidden.dtype)
    ids = chunk_ids(start, table.shape[0], chunk)
    # Masking the bias [size] instead of the logits [N, size] saves a pass over the large array.
    masked_bias = jnp.where(ids >= first, take_slice(bias, start, chunk), _NEGATIVE)
    return _matmul(hidden, rows.T) + masked_bias[None, :]


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)


def _block(chunk: int) -> int:
    """Tokens of a tile: few, since on average half a block at the end carries no weight."""
    return -(-chunk // 8)


def _take(values: jax.Array, rows: jax.Array, fill: float = 0) -> jax.Array:
    """Takes values [N, ...] at rows int32 [S]; `fill` at row N, which is none."""
    return values.at[rows].get(mode="fill", fill_value=fill)
