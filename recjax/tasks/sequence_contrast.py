"""Sequence contrast (CL4SRec): two changed copies of a sequence know each other among all others.

The copies are made on the device by two different augmentations. Called by the trainer through the
task interface (see `recjax.tasks`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from recjax.losses import info_nce
from recjax.models import fold_in_rows, row_uniform, unit_vectors
from recjax.tasks import row_draws
from recjax.tasks.augmentation import AUGMENTATIONS, Augmentation, choose
from recjax.tasks.encoder_task import DenseHeadTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.sequences import (
    EVENT_FIELDS,
    any_of_sequence,
    per_sequence,
    pool,
    select_sequences,
    spans_of,
)


@dataclasses.dataclass(frozen=True)
class SequenceContrast(DenseHeadTask):
    """InfoNCE between two views of each sequence, both ways.

    Negatives are the other view of all other picked sequences of the batch, on all devices.

    Attributes:
        causal: how the encoder reads.
        augmentations: two or more of `AUGMENTATIONS`; each sequence gets two different ones, drawn.
        crop_share, mask_share, reorder_share: see `Augmentation`.
        temperature: of the likenesses.
        sequences_per_row: most sequences of a row that take part, drawn; the cost of comparing
            grows with the square of their number in the batch.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Xie et al. (2022), "Contrastive Learning for Sequential Recommendation" (CL4SRec);
        with a projection head, as in Chen et al. (2020), "A Simple Framework for Contrastive
        Learning of Visual Representations".
    """

    causal: bool = False
    augmentations: tuple[str, ...] = AUGMENTATIONS
    crop_share: float = 0.6
    mask_share: float = 0.3
    reorder_share: float = 0.6
    temperature: float = 0.1
    sequences_per_row: int = 8
    name: ClassVar[str] = "sequence_contrast"
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentations", tuple(self.augmentations))
        if set(self.augmentations) - set(AUGMENTATIONS) or len(set(self.augmentations)) < 2:
            raise ValueError(
                f"augmentations must be two or more of {', '.join(AUGMENTATIONS)}, "
                f"got {self.augmentations}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.sequences_per_row < 1:
            raise ValueError(f"sequences_per_row must be at least 1, got {self.sequences_per_row}")
        self._augmentation()  # refuses shares out of range

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"sequence_contrast": (sum of nats, weight)} over picked sequences.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        keys = row_draws.content_keys(batch["items"]) if keys is None else keys
        views = self.views(batch, keys)
        numbers, weights = self._pick(batch, views, keys)
        one, other = (
            self._vectors(params, view, constants, numbers, view_keys if train else None)
            for view, view_keys in views
        )
        own, scale = jnp.arange(len(one)), jnp.float32(1 / self.temperature)
        return {self.name: info_nce(one, other, own, weights.reshape(-1), scale)}

    def views(self, batch: Batch, keys: jax.Array) -> list[tuple[Batch, jax.Array]]:
        """Returns two changed copies of the batch, each with the keys [B] for its dropout.

        What becomes of sequences of one event is not to be used: a crop has none of them left.
        """
        spans, count = spans_of(batch["segments"]), len(self.augmentations)
        draw = row_uniform(keys, row_draws.AUGMENTATION, (2, spans.start.shape[1]))
        one = (per_sequence(draw[:, 0], spans) * count).astype(jnp.int32)
        step = 1 + (per_sequence(draw[:, 1], spans) * (count - 1)).astype(jnp.int32)
        copies = []
        for site, kind in zip(row_draws.VIEWS, (one, (one + step) % count), strict=True):
            view, view_keys = batch, fold_in_rows(keys, site)
            for index, name in enumerate(self.augmentations):
                changed = self._augmentation()(batch, fold_in_rows(view_keys, index), name)
                view = choose(kind == index, changed, view)
            copies.append((view, view_keys))
        return copies

    def _pick(
        self, batch: Batch, views: list[tuple[Batch, jax.Array]], keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Draws sequences of two and more events whose copies differ; see `select_sequences`."""
        segments, ((one, _), (other, _)) = batch["segments"], views
        differs = jnp.stack([one[name] != other[name] for name in EVENT_FIELDS]).any(axis=0)
        may = any_of_sequence(differs, segments) & (spans_of(segments).length > 1)
        order = row_uniform(keys, row_draws.SEQUENCE_CHOICE, segments.shape[1:])
        slots = min(self.sequences_per_row, max(1, segments.shape[1] // 2))
        return select_sequences(batch, may, slots, order)

    def _vectors(
        self,
        params: Params,
        view: Batch,
        constants: Batch,
        numbers: jax.Array,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Projected summaries of the picked sequences, unit vectors float32 [B * S, D]."""
        hidden = self.encode(params, view, constants, causal=self.causal, keys=keys)
        vectors = pool(hidden, view["segments"], numbers, causal=self.causal)
        return unit_vectors(self._apply_head(params, vectors.reshape(-1, vectors.shape[-1])))

    def _head_width(self) -> int:
        return self.encoder.hidden_dim

    def _augmentation(self) -> Augmentation:
        return Augmentation(
            self.crop_share, self.mask_share, self.reorder_share, self.encoder.num_actions
        )
