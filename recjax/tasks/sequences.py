"""Whole sequences of packed rows: where each one lies, windows of them, one vector for each.

A sequence is a segment of a row. All of it is row by row, so nothing moves between devices that
hold different rows. Called by `recjax.tasks`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recjax.models import row_uniform
from recjax.tasks.parameters import Batch
from recjax.tasks.positions import is_first, is_last, select_smallest, take

EVENT_FIELDS = ("items", "actions", "gaps", "positions", "segments")


class Spans(NamedTuple):
    """Where the sequence of each event lies, int32 [B, T]; all 0 on padding.

    Attributes:
        start: index of its first event.
        length: its events.
        place: the event's own place in it, from 0.
    """

    start: jax.Array
    length: jax.Array
    place: jax.Array


def spans_of(segments: jax.Array) -> Spans:
    """Returns the spans of segments int32 [B, T]."""
    steps = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32)[None], segments.shape)
    start = jax.lax.cummax(jnp.where(is_first(segments), steps, 0), axis=1)
    last = jnp.where(is_last(segments), steps, segments.shape[1])
    last = jax.lax.cummin(last, axis=1, reverse=True)
    real = segments > 0
    parts = (start, last - start + 1, steps - start)
    return Spans(*(jnp.where(real, part, 0) for part in parts))


def per_sequence(draw: jax.Array, spans: Spans) -> jax.Array:
    """Gives all events of a sequence the draw [B, T] of its first one."""
    return take(draw, spans.start)


def any_of_sequence(flags: jax.Array, segments: jax.Array) -> jax.Array:
    """Gives all events of a sequence True where a flag [B, T] of one of them is."""
    same = segments[:, :, None] == segments[:, None, :]
    return (same & flags[:, None, :]).any(axis=-1)


def draw_window(
    keys: jax.Array, site: int, spans: Spans, size: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """Draws one window of `size` neighbouring events in each sequence.

    Args:
        keys: typed PRNG keys [B].
        site: of the draw (static).
        spans: of the sequences.
        size: events, int32 [B, T] or one for all; no more than the sequence has.

    Returns:
        inside bool [B, T], and the place of the window's first event int32 [B, T].
    """
    draw = per_sequence(row_uniform(keys, site, spans.start.shape[1:]), spans)
    room = spans.length - size
    first = jnp.minimum((draw * (room + 1)).astype(jnp.int32), room)
    inside = (spans.length > 0) & (spans.place >= first) & (spans.place < first + size)
    return inside, first


def keep_only(batch: Batch, inside: jax.Array, first: jax.Array) -> Batch:
    """Takes the events outside of a window off, as if each sequence had never had them.

    Args:
        batch: items, positions, segments int32 [B, T], and more that is left alone.
        inside: bool [B, T].
        first: int32 [B, T], place of the window's first event; positions count from there.
    """
    positions = batch["positions"] - first
    changed = {"items": batch["items"], "positions": positions, "segments": batch["segments"]}
    return batch | {name: jnp.where(inside, value, 0) for name, value in changed.items()}


def select_sequences(
    batch: Batch, may: jax.Array, slots: int, order: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Picks at most `slots` sequences per row.

    Args:
        batch: segments int32 [B, T], weights float32 [B, T].
        may: bool [B, T], True on the events of sequences that may be picked.
        slots: S (static).
        order: float32 [B, T] in [0, 1), that of a sequence's last event counts; smallest first.

    Returns:
        numbers of the segments int32 [B, S], 0 in unused slots, and weights float32 [B, S], those
        of the last events, 0 in unused slots.
    """
    segments, weights = batch["segments"], batch["weights"]
    score = jnp.where(is_last(segments) & may & (weights > 0), order, 1.0)
    positions, chosen = select_smallest(score, 1.0, slots)
    numbers, weights = take(segments, positions), take(weights, positions)
    return jnp.where(chosen, numbers, 0), jnp.where(chosen, weights, 0)


def members(segments: jax.Array, numbers: jax.Array) -> jax.Array:
    """Returns bool [B, S, T], True on the events of segment numbers [B, S] (0: of none)."""
    return (segments[:, None, :] == numbers[:, :, None]) & (numbers > 0)[:, :, None]


def pool(hidden: jax.Array, segments: jax.Array, numbers: jax.Array, *, causal: bool) -> jax.Array:
    """Summarises sequences: the last hidden state read causally, else the mean.

    Args:
        hidden: float [B, T, D].
        segments: int32 [B, T].
        numbers: int32 [B, S], segments to summarise; 0: none.
        causal: how the encoder read (static).

    Returns:
        float32 [B, S, D], 0 for none.
    """
    counts = is_last(segments) if causal else segments > 0
    counted = (members(segments, numbers) & counts[:, None, :]).astype(hidden.dtype)
    total = jnp.einsum("bst,btd->bsd", counted, hidden, preferred_element_type=jnp.float32)
    return total / jnp.maximum(counted.sum(axis=-1), 1).astype(jnp.float32)[..., None]
