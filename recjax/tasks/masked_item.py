"""Masked item prediction (BERT4Rec): hide some events, predict their items from both sides.

Masks are drawn on the device, row by row, so that a row's mask depends on its key alone. Called by
the trainer through the task interface (see `recjax.tasks`).
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from recjax.models import NUM_SPECIALS, fold_in_rows, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import ItemTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import hide, mark, select_smallest, take

_NEVER = 2.0  # a score no drawn one reaches


@dataclasses.dataclass(frozen=True)
class MaskedItem(ItemTask):
    """Masked item prediction over packed sequences.

    Attributes:
        mask_rate: share of the events that are predicted, 0 < rate <= 1; every segment has at
            least one, whatever its length.
        mask_share: of the predicted events, those that are hidden behind [MASK] ...
        random_share: ... or behind a random item; the others stay as they are (BERT's rule).

    Raises:
        ValueError: if a share is out of range, or the encoder reads forward only.
    """

    mask_rate: float = 0.2
    mask_share: float = 0.8
    random_share: float = 0.1
    name: ClassVar[str] = "masked_item"
    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.encoder.check_direction(causal=False)
        if not 0 < self.mask_rate <= 1:
            raise ValueError(f"mask_rate must be in (0, 1], got {self.mask_rate}")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} must be "
                "shares that add up to at most 1"
            )

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"masked_item": (sum of nats, weight)} over the predicted events.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B]; None masks by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        masked, positions, targets, weights = self.mask(batch, keys)
        dropout_keys = keys if train else None
        hidden = self.encode(params, masked, constants, causal=self.causal, keys=dropout_keys)
        hidden = take(hidden, positions)
        return {self.name: self._item_loss(params, hidden, targets, weights, keys)}

    def mask(
        self, batch: Batch, keys: jax.Array | None
    ) -> tuple[Batch, jax.Array, jax.Array, jax.Array]:
        """Hides events of a batch.

        Events are drawn independently at `mask_rate`, plus one in each segment that got none. A row
        has room for half as many again as expected and a tenth of its length; draws beyond
        that are left alone, never the only one of a segment before another's second.

        Returns:
            The batch with hidden events; positions, targets int32 and weights float32 [B, S] of the
            predicted events (weight 0 in unused slots).
        """
        items, length = batch["items"], batch["items"].shape[1]
        keys = row_draws.content_keys(items) if keys is None else keys
        may = (batch["segments"] > 0) & (items >= NUM_SPECIALS) & (batch["weights"] > 0)
        draw = row_uniform(keys, row_draws.MASK_CHOICE, (length,))
        score = _mask_order(jnp.where(may, draw, _NEVER), batch["segments"], self.mask_rate)
        slots = min(length, math.ceil(length * min(1.0, 1.5 * self.mask_rate + 0.1)))
        positions, chosen = select_smallest(score, _NEVER, slots)
        weights = jnp.where(chosen, take(batch["weights"], positions), 0)
        hidden = self._hide(batch, mark(positions, chosen, length), keys)
        return hidden, positions, take(items, positions), weights

    def _hide(self, batch: Batch, chosen: jax.Array, keys: jax.Array) -> Batch:
        """Applies BERT's rule: [MASK], a random item, or nothing."""
        rule = row_uniform(keys, row_draws.MASK_RULE, chosen.shape[1:])
        behind_mask = chosen & (rule < self.mask_share)
        behind_random = chosen & ~behind_mask & (rule < self.mask_share + self.random_share)
        draw = jax.vmap(
            lambda key: jax.random.randint(
                key, chosen.shape[1:], NUM_SPECIALS, self.encoder.vocab_size
            )
        )
        random_items = draw(fold_in_rows(keys, row_draws.MASK_ITEM))
        batch = hide(batch, behind_mask, hidden_action=self.encoder.num_actions)
        return batch | {"items": jnp.where(behind_random, random_items, batch["items"])}


def _mask_order(draw: jax.Array, segments: jax.Array, rate: float) -> jax.Array:
    """Scores events: below 0 the smallest draw of its segment, below `rate` drawn, else never."""
    same = segments[:, :, None] == segments[:, None, :]
    smallest = jnp.where(same, draw[:, None, :], _NEVER).min(axis=-1)
    score = jnp.where(draw < rate, draw, _NEVER)
    return jnp.where((draw == smallest) & (draw < _NEVER), draw - 1, score)
