"""Changed copies of sequences (crop, mask, reorder), made on the device, each truly changed.

Sequences of one event cannot be cropped or reordered; callers leave them out. Called by
`recjax.tasks.sequence_contrast`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.models import row_uniform
from recjax.tasks.parameters import Batch
from recjax.tasks.positions import hide, take
from recjax.tasks.sequences import (
    EVENT_FIELDS,
    Spans,
    any_of_sequence,
    draw_window,
    keep_only,
    spans_of,
)

AUGMENTATIONS = ("crop", "mask", "reorder")
_CHOICE, _WINDOW, _ORDER = range(3)  # sites; keys differ per view and augmentation


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How sequences are changed.

    Attributes:
        crop_share: of a sequence's events that stay, next to each other.
        mask_share: of its events that are hidden.
        reorder_share: of its events, next to each other, that change places.
        hidden_action: action id that means "hidden".

    Raises:
        ValueError: if a share is not inside (0, 1), or (0, 1] for reorder_share.

    Reference:
        Xie et al. (2022), "Contrastive Learning for Sequential Recommendation" (CL4SRec).
    """

    crop_share: float
    mask_share: float
    reorder_share: float
    hidden_action: int

    def __post_init__(self) -> None:
        for name in ("crop_share", "mask_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be above 0 and below 1, got {getattr(self, name)}")
        if not 0 < self.reorder_share <= 1:
            raise ValueError(f"reorder_share must be in (0, 1], got {self.reorder_share}")

    def __call__(self, batch: Batch, keys: jax.Array, name: str) -> Batch:
        """Returns a changed copy of every sequence of two and more events.

        Args:
            batch: items, actions, gaps, positions, segments int32 [B, T].
            keys: typed PRNG keys [B].
            name: of `AUGMENTATIONS` (static).
        """
        spans = spans_of(batch["segments"])
        make = {"crop": self._crop, "mask": self._mask, "reorder": self._reorder}[name]
        return make(batch, keys, spans)

    def _crop(self, batch: Batch, keys: jax.Array, spans: Spans) -> Batch:
        size = jnp.minimum(_share_of(self.crop_share, spans), spans.length - 1)
        return keep_only(batch, *draw_window(keys, _WINDOW, spans, size))

    def _mask(self, batch: Batch, keys: jax.Array, spans: Spans) -> Batch:
        """Hides the events with the smallest draws; one or more, never all of two and more."""
        count = jnp.minimum(_share_of(self.mask_share, spans), spans.length - 1)
        draw = row_uniform(keys, _CHOICE, spans.start.shape[1:])
        segments = batch["segments"]
        same = segments[:, :, None] == segments[:, None, :]
        rank = (same & (draw[:, None, :] < draw[:, :, None])).sum(axis=-1)
        where = (segments > 0) & (rank < count)
        return hide(batch, where, hidden_action=self.hidden_action)

    def _reorder(self, batch: Batch, keys: jax.Array, spans: Spans) -> Batch:
        """Moves the items and actions of a window round a random cycle: each changes its place.

        Masks where that leaves all items as they were (the window repeats one item).
        """
        size = jnp.minimum(jnp.maximum(_share_of(self.reorder_share, spans), 2), spans.length)
        inside, first = draw_window(keys, _WINDOW, spans, size)
        draw = row_uniform(keys, _ORDER, spans.start.shape[1:])
        steps = jnp.broadcast_to(jnp.arange(draw.shape[1], dtype=jnp.int32)[None], draw.shape)
        begin = spans.start + first
        shuffled = jnp.argsort(jnp.where(inside, begin - 0.5 + draw * size, steps), axis=1)
        turned = begin + (steps - begin + 1) % jnp.maximum(size, 1)
        following = take(shuffled, jnp.where(inside, turned, steps))
        order = take(following, jnp.argsort(shuffled, axis=1))
        moved = batch | {name: take(batch[name], order) for name in ("items", "actions")}
        differs = moved["items"] != batch["items"]
        changed = any_of_sequence(differs, batch["segments"])
        return choose(changed, moved, self._mask(batch, keys, spans))


def choose(where: jax.Array, batch: Batch, other: Batch) -> Batch:
    """Takes events of `batch` where [B, T] is True, of `other` elsewhere."""
    return other | {name: jnp.where(where, batch[name], other[name]) for name in EVENT_FIELDS}


def _share_of(share: float, spans: Spans) -> jax.Array:
    """That share of each sequence's events, rounded, at least one; int32 [B, T]."""
    return jnp.maximum(jnp.round(share * spans.length).astype(jnp.int32), 1)
