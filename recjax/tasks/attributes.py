"""Attributes of items (S3-Rec): the category of hidden events, and of each item by itself.

Called by the trainer through the task interface (see `recjax.tasks`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from recjax.models.item_axis import look_up
from recjax.tasks.encoder_task import DenseHeadTask
from recjax.tasks.masked_item import MaskedItem
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import take


@dataclasses.dataclass(frozen=True)
class CategoryTask(DenseHeadTask):
    """An objective that predicts categories by a softmax over all of them.

    Raises:
        ValueError: if the catalogue has no categories.
    """

    def __post_init__(self) -> None:
        if self.encoder.num_categories < 2:
            raise ValueError(f"{self.name} needs a catalogue with categories, it has none")

    def _head_width(self) -> int:
        return self.encoder.num_categories  # that of 0 (none) is never asked for

    def _category_loss(
        self,
        params: Params,
        vectors: jax.Array,
        items: jax.Array,
        weights: jax.Array,
        constants: Batch,
    ) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy of the categories of items [B, S], given [B, S, D]; none weighs 0."""
        category = jnp.take(constants["item_category"], items, mode="clip")
        logits = self._apply_head(params, vectors)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, category)
        weights = jnp.where(category > 0, weights, 0)
        return (losses * weights).sum(), weights.sum()


@dataclasses.dataclass(frozen=True)
class MaskedAttribute(CategoryTask):
    """Predicts the category of hidden events from those around them.

    It hides the same events as `MaskedItem` with the same rate and keys. Events that the masking
    rule leaves as they are, or puts another item in the place of, are asked for too.

    Attributes:
        causal: how the encoder reads.
        mask_rate: share of the events that are asked for.

    Reference:
        Zhou et al. (2020), "S3-Rec: Self-Supervised Learning for Sequential Recommendation with
        Mutual Information Maximization", masked attribute prediction.
    """

    causal: bool = False
    mask_rate: float = 0.2
    name: ClassVar[str] = "masked_attribute"

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"masked_attribute": (sum of nats, weight)}.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V].
            keys: typed PRNG keys [B]; None masks by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        masking = MaskedItem(self.encoder, mask_rate=self.mask_rate)
        masked, positions, items, weights = masking.mask(batch, keys)
        dropout_keys = keys if train else None
        hidden = self.encode(params, masked, constants, causal=self.causal, keys=dropout_keys)
        hidden = take(hidden, positions)
        return {self.name: self._category_loss(params, hidden, items, weights, constants)}


@dataclasses.dataclass(frozen=True)
class ItemAttribute(CategoryTask):
    """Predicts the category of each item from its own row of the item table, nothing else.

    Reference:
        Zhou et al. (2020), "S3-Rec", associated attribute prediction.
    """

    name: ClassVar[str] = "item_attribute"

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"item_attribute": (sum of nats, weight)} over all events.

        Args:
            params: {"encoder", "head"}.
            batch: items int32 [B, T], weights float32 [B, T], 0 on padding.
            constants: item_category int32 [V].
            keys: not used.
            train: not used.
        """
        del keys, train
        items, weights = batch["items"], batch["weights"]
        vectors = look_up(params["encoder"]["embedding"]["item"]["table"], items)
        return {self.name: self._category_loss(params, vectors, items, weights, constants)}
