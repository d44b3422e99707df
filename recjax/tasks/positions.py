"""Selected positions of packed rows: which ones, and what the batch holds there.

Only a part of the events is predicted (the masked ones, the last ones). A fixed number of slots per
row keeps shapes static and saves the output layer's work on the rest. All of it is row by row, so
nothing moves between devices that hold different rows.
"""

import jax
import jax.numpy as jnp

from recjax.models import MASK_ID


def select_smallest(score: jax.Array, limit: float, slots: int) -> tuple[jax.Array, jax.Array]:
    """Finds, per row, the positions of the smallest scores below `limit`.

    Args:
        score: float32 [B, T].
        limit: scores at or above it are never taken (static).
        slots: at most this many per row (static).

    Returns:
        positions int32 [B, slots] and mask bool [B, slots], False in unused slots.
    """
    steps = jnp.broadcast_to(jnp.arange(score.shape[1], dtype=jnp.int32)[None], score.shape)
    ordered, positions = jax.lax.sort((score, steps), dimension=1, num_keys=1, is_stable=True)
    return positions[:, :slots], ordered[:, :slots] < limit


def take(values: jax.Array, positions: jax.Array) -> jax.Array:
    """Gathers values [B, T, ...] at positions int32 [B, S] -> [B, S, ...]."""
    return jax.vmap(lambda row, at: jnp.take(row, at, axis=0, mode="clip"))(values, positions)


def mark(positions: jax.Array, mask: jax.Array, length: int) -> jax.Array:
    """Returns bool [B, length], True at the positions whose mask is True."""
    steps = jnp.arange(length, dtype=jnp.int32)
    return ((positions[:, :, None] == steps[None, None]) & mask[:, :, None]).any(axis=1)


def is_first(segments: jax.Array) -> jax.Array:
    """Returns bool [B, T], True at the first event of each segment."""
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
    return (segments > 0) & (segments != before)


def is_last(segments: jax.Array) -> jax.Array:
    """Returns bool [B, T], True at the last event of each segment."""
    after = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    return (segments > 0) & (segments != after)


def hide(
    batch: dict[str, jax.Array],
    where: jax.Array,
    *,
    hidden_action: int,
    hidden_gap: int | None = None,
) -> dict[str, jax.Array]:
    """Replaces events by [MASK]: the item (and with it the category) and the action.

    The position stays. The gap stays too unless `hidden_gap` is given: a masked event inside a
    sequence happened at a known time, but the time of a query's event is what nobody knows yet.

    Args:
        batch: items, actions, gaps int32 [B, T], and more that is left alone.
        where: bool [B, T].
        hidden_action: action id that means "hidden" (static).
        hidden_gap: gap id that means "hidden", or None to keep gaps (static).
    """
    batch = batch | {
        "items": jnp.where(where, MASK_ID, batch["items"]),
        "actions": jnp.where(where, hidden_action, batch["actions"]),
    }
    if hidden_gap is not None:
        batch["gaps"] = jnp.where(where, hidden_gap, batch["gaps"])
    return batch
