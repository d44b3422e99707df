"""Ranks of targets among items, and what is counted from a rank.

Ranking over the whole catalogue runs chunk by chunk, so that no [B, V] array exists. Ties get half
rank: a constant model scores like a random one, never like a perfect one.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

Array = Any  # numpy.ndarray or jax.Array; the result is of the same kind

# ----------------------------------------------------------------------- ranks


def ranks_and_top_items(
    queries: jax.Array,
    table: jax.Array,
    bias: jax.Array | None,
    target: jax.Array,
    history: jax.Array,
    *,
    item_chunk: int,
    top_n: int,
    mask_history: bool,
    num_specials: int = 5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ranks every item for each query: the target's rank and the best items.

    The rank is the number of items with a higher score plus half of the others with the same score,
    0 is best. Specials are never ranked. With `mask_history` the row's history is not ranked
    either: a target that is in it can then not be recommended and counts as a miss. A miss (that
    one, a special such as [UNK] as target, or a score that is not finite) has rank V - specials.

    Args:
        queries: float [B, D].
        table: float [V, D].
        bias: float [V] or None.
        target: int32 [B], item ids.
        history: int32 [B, H], item ids padded with 0.
        item_chunk: items scored at once (static).
        top_n: length of the list (static); 0 makes none and saves the sorting.
        mask_history: whether history is taken out (static).
        num_specials: ids below it are not items (static).

    Returns:
        ranks float32 [B]; top_items int32 [B, top_n], best first, the smaller id first among equal
        scores, 0 where fewer items are left; top_scores float32 [B, top_n], -inf there.

    Raises:
        ValueError: if item_chunk < 1 or top_n is not in 0 .. number of items.

    Example:
        >>> table = jnp.arange(8.0)[:, None]
        >>> ranks, top, _ = ranks_and_top_items(
        ...     jnp.ones((1, 1)), table, None, jnp.array([5]), jnp.array([[7, 0]]),
        ...     item_chunk=4, top_n=2, mask_history=True)
        >>> ranks.tolist(), top.tolist()
        ([1.0], [[6, 5]])
    """
    num_rows = table.shape[0]
    if item_chunk < 1 or not 0 <= top_n <= num_rows - num_specials:
        raise ValueError(
            f"item_chunk {item_chunk} must be at least 1 and top_n {top_n} between 0 and the "
            f"{num_rows - num_specials} items"
        )
    size = -(-num_rows // -(-num_rows // item_chunk))
    num_chunks = -(-num_rows // size)
    bias = jnp.zeros(num_rows) if bias is None else bias

    def chunk_scores(index: jax.Array | int) -> tuple[jax.Array, jax.Array]:
        """Scores [B, size] and ids [size]; -inf where an item is not ranked (again)."""
        start = jnp.minimum(index * size, num_rows - size)
        ids = start + jnp.arange(size, dtype=jnp.int32)
        rows = jax.lax.dynamic_slice_in_dim(table, start, size)
        biases = jax.lax.dynamic_slice_in_dim(bias, start, size)
        scores = jnp.matmul(queries, rows.T, preferred_element_type=jnp.float32) + biases[None]
        ranked = ids >= jnp.maximum(index * size, num_specials)
        scores = jnp.where(ranked[None] & ~jnp.isnan(scores), scores, -jnp.inf)
        return (_drop_items(scores, history, start) if mask_history else scores), ids

    def find_target(index: jax.Array, found: jax.Array) -> jax.Array:
        scores, ids = chunk_scores(index)
        return jnp.maximum(found, _pick(scores, target - ids[0]))

    def count(index: jax.Array, carry: tuple) -> tuple:
        above, equal, items, best = carry
        scores, ids = chunk_scores(index)
        above += (scores > target_score[:, None]).sum(axis=1)
        equal += (scores == target_score[:, None]).sum(axis=1)
        return above, equal, *_merge_top(items, best, ids, scores)

    # The target's score is read from the same matrix product that it is compared with: a second
    # formula would round differently and break ties at random.
    rows = queries.shape[0]
    lowest = jnp.full(rows, -jnp.inf)
    target_score = jax.lax.fori_loop(0, num_chunks, find_target, lowest)
    zeros = jnp.zeros(rows, jnp.int32)
    empty = jnp.zeros((rows, top_n), jnp.int32), jnp.full((rows, top_n), -jnp.inf)
    above, equal, items, best = jax.lax.fori_loop(0, num_chunks, count, (zeros, zeros, *empty))
    ranks = above.astype(jnp.float32) + (equal.astype(jnp.float32) - 1) / 2
    ranks = jnp.where(jnp.isfinite(target_score), ranks, num_rows - num_specials)
    return ranks, jnp.where(jnp.isneginf(best), 0, items), best


def rank_of_target(scores: Array, target: Array, mask: Array | None = None) -> Array:
    """Ranks one candidate among a list: higher scores plus half of the other equal ones.

    Args:
        scores: float [B, C].
        target: int [B], column of the target.
        mask: bool [B, C], True for candidates that exist; None for all. A masked target has rank C.

    Returns:
        float [B], 0 is best.

    Example:
        >>> rank_of_target(jnp.array([[1.0, 3.0, 1.0, 0.0]]), jnp.array([0])).tolist()
        [1.5]
    """
    xp = scores.__array_namespace__()
    mask = xp.ones(scores.shape, dtype=bool) if mask is None else mask
    mask = mask & ~xp.isnan(scores)
    columns = xp.arange(scores.shape[1])
    is_target = (columns[None, :] == target[:, None]) & mask
    value = xp.where(is_target, scores, -xp.inf).max(axis=1)[:, None]
    above = ((scores > value) & mask).sum(axis=1)
    equal = ((scores == value) & mask & ~is_target).sum(axis=1)
    return xp.where(is_target.any(axis=1), above + 0.5 * equal, float(scores.shape[1]))


# -------------------------------------------------- one relevant item per row


def hit_rate_at(ranks: Array, k: int) -> Array:
    """Returns float [B]: 1 where the target is among the first k (rank < k), else 0."""
    return (ranks < k).astype("float32")


def recall_at(ranks: Array, k: int) -> Array:
    """Returns float [B]; with one relevant item per row recall is the hit rate."""
    return hit_rate_at(ranks, k)


def precision_at(ranks: Array, k: int) -> Array:
    """Returns float [B]: hits among the first k over k."""
    return hit_rate_at(ranks, k) / k


def ndcg_at(ranks: Array, k: int) -> Array:
    """Returns float [B]: 1 / log2(rank + 2) where rank < k, else 0.

    Reference:
        Jarvelin and Kekalainen (2002), with one relevant item the ideal gain is 1.

    Example:
        >>> ndcg_at(jnp.array([0.0, 2.0, 10.0]), 10).tolist()
        [1.0, 0.5, 0.0]
    """
    xp = ranks.__array_namespace__()
    return xp.where(ranks < k, 1 / xp.log2(ranks + 2), 0.0)


def mrr(ranks: Array, k: int | None = None) -> Array:
    """Returns the reciprocal rank float [B], 1 / (rank + 1); 0 from rank k on, if k is given."""
    xp = ranks.__array_namespace__()
    value = 1 / (ranks + 1)
    return value if k is None else xp.where(ranks < k, value, 0.0)


# --------------------------------------------------------------------- private


def _drop_items(scores: jax.Array, items: jax.Array, start: jax.Array) -> jax.Array:
    """Sets the scores of each row's items [B, H] to -inf; the chunk's first id is `start`."""
    size = scores.shape[1]
    columns = items - start
    columns = jnp.where((columns >= 0) & (columns < size), columns, size)  # size: dropped
    return jax.vmap(lambda row, at: row.at[at].set(-jnp.inf, mode="drop"))(scores, columns)


def _pick(scores: jax.Array, column: jax.Array) -> jax.Array:
    """Returns scores[b, column[b]], -inf where the column is outside."""
    size = scores.shape[1]
    inside = (column >= 0) & (column < size)
    values = jax.vmap(lambda row, at: row[at])(scores, jnp.clip(column, 0, size - 1))
    return jnp.where(inside, values, -jnp.inf)


def _merge_top(
    items: jax.Array, best: jax.Array, ids: jax.Array, scores: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Merges a chunk into the running best; of equal scores the smaller id comes first."""
    top_n = best.shape[1]
    if not top_n:
        return items, best
    chunk_best, columns = _top_columns(scores, min(top_n, scores.shape[1]))
    all_items = jnp.concatenate([items, ids[columns]], axis=1)
    best, columns = jax.lax.top_k(jnp.concatenate([best, chunk_best], axis=1), top_n)
    return jax.vmap(lambda row, at: row[at])(all_items, columns), best


def _top_columns(scores: jax.Array, top_n: int) -> tuple[jax.Array, jax.Array]:
    """Returns the top_n scores and columns of each row [B, C]; of equal scores the first columns.

    The top_n groups with the highest maxima hold the top_n scores, so `lax.top_k` sees group maxima
    and a few groups only. On a mesh it gathers what it sees from all devices: like this, little.
    """
    num_rows, size = scores.shape
    width = max(1, math.isqrt(size // top_n))
    groups = -(-size // width)
    fill = ((0, 0), (0, groups * width - size))
    grouped = jnp.pad(scores, fill, constant_values=-jnp.inf).reshape(num_rows, groups, width)
    _, chosen = jax.lax.top_k(grouped.max(axis=2), top_n)
    chosen = jnp.sort(chosen, axis=1)  # so that columns rise and ties keep their order
    columns = chosen[:, :, None] * width + jnp.arange(width, dtype=jnp.int32)[None, None]
    columns = jnp.minimum(columns, size - 1).reshape(num_rows, -1)  # the filling scores -inf
    values = jax.vmap(lambda row, at: row[at].reshape(-1))(grouped, chosen)
    best, places = jax.lax.top_k(values, top_n)
    return best, jax.vmap(lambda row, at: row[at])(columns, places)
