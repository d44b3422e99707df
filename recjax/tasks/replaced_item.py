"""Replaced-item detection (ELECTRA kind): some items are swapped for drawn ones; which?

Every event is judged, not only a masked share. Called by the trainer through the task interface
(see `recjax.tasks`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from recjax.losses import PROPOSALS, draw_negatives, sigmoid_cross_entropy
from recjax.models import NUM_SPECIALS, fold_in_rows, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import DenseHeadTask
from recjax.tasks.parameters import Batch, Params


@dataclasses.dataclass(frozen=True)
class ReplacedItem(DenseHeadTask):
    """Tells, for every event, whether its item was swapped; the rest of the event stays.

    Attributes:
        causal: how the encoder reads.
        replaced_share: of the events, 0 < share < 1.
        proposal: where items are drawn from, "uniform" or "log_uniform" (by popularity rank), see
            `draw_negatives`.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Clark et al. (2020), "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than
        Generators", with a fixed generator.
    """

    causal: bool = False
    replaced_share: float = 0.15
    proposal: str = "uniform"
    name: ClassVar[str] = "replaced_item"

    def __post_init__(self) -> None:
        if not 0 < self.replaced_share < 1:
            raise ValueError(
                f"replaced_share must be above 0 and below 1, got {self.replaced_share}"
            )
        if self.proposal not in PROPOSALS:
            raise ValueError(f"proposal must be one of {', '.join(PROPOSALS)}: {self.proposal!r}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"replaced_item": (sum of nats, weight)} over all known items.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        spoiled, replaced = self.replace(batch, keys)
        dropout_keys = keys if train else None
        hidden = self.encode(params, spoiled, constants, causal=self.causal, keys=dropout_keys)
        logits = self._apply_head(params, hidden)[..., 0]
        weights = jnp.where(_known(batch), batch["weights"], 0)
        return {self.name: sigmoid_cross_entropy(logits, replaced.astype(jnp.float32), weights)}

    def replace(self, batch: Batch, keys: jax.Array | None) -> tuple[Batch, jax.Array]:
        """Swaps items.

        Returns:
            The batch with swapped items, and bool [B, T]: where the item is now another one. A draw
            that equals the original is no replacement.
        """
        items = batch["items"]
        keys = row_draws.content_keys(items) if keys is None else keys
        draw = row_uniform(keys, row_draws.REPLACE_CHOICE, items.shape[1:])
        others, _ = draw_negatives(
            fold_in_rows(keys, row_draws.REPLACE_ITEM),
            items.shape[1],
            num_ids=self.encoder.vocab_size,
            proposal=self.proposal,
        )
        swapped = jnp.where(_known(batch) & (draw < self.replaced_share), others, items)
        return batch | {"items": swapped}, swapped != items

    def _head_width(self) -> int:
        return 1


def _known(batch: Batch) -> jax.Array:
    return (batch["segments"] > 0) & (batch["items"] >= NUM_SPECIALS)
