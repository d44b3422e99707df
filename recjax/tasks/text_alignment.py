"""Behaviour and text in one space: what a user has done points at the title of what comes next.

Called by the trainer through the task interface (see `recjax.tasks`), in a mixture.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from recjax.losses import info_nce
from recjax.models import CommonSpace, mean_of_tokens, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.next_item import NextItem
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import select_smallest, take
from recjax.tasks.text_task import TextTask

_NEVER = 2.0  # a score no drawn one reaches


@dataclasses.dataclass(frozen=True)
class TextAlignment(TextTask):
    """Contrastive alignment of the behaviour before an event with the title of the event's item.

    The negatives of a pair are all other pairs of the batch, over all devices, save those whose
    item is the same.

    Attributes:
        causal: how the encoder reads: True takes the hidden state before an event, any event of a
            segment; False hides a segment's last event and takes the hidden state there.
        dim: width of the common space.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Radford et al. (2021), "Learning Transferable Visual Models From Natural Language
        Supervision", Sec. 2.3.
    """

    causal: bool = False
    dim: int = 64
    name: ClassVar[str] = "text_alignment"
    whole_batch: ClassVar[bool] = True
    site: ClassVar[int] = row_draws.TEXT_ALIGNMENT

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 1:
            raise ValueError(f"text.alignment_dim must be at least 1, got {self.dim}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"text_alignment": (sum of nats, weight)}; a pair's weight is its event's.

        Args:
            params: {"encoder", "head", "text"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_tokens int32 [V, L], and item_category int32 [V] where "category" is an
                input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        keys = self.own_keys(batch, keys)
        asked, positions, items, weights = self.pairs(batch, keys)
        hidden = self.encode(
            params, asked, constants, causal=self.causal, keys=keys if train else None
        )
        behaviour = take(hidden, positions).reshape(-1, hidden.shape[-1])
        tokens = self.titles(items, constants)
        segments, text_keys = self.segments(tokens), self.text_keys(keys, items.shape[1])
        hidden = self.encode_texts(params, tokens, segments, text_keys if train else None)
        found: Any = self._space().apply(
            {"params": params["head"]}, behaviour, mean_of_tokens(hidden, segments)
        )
        left, right, scale = found
        has_title = segments.sum(axis=1) > 0
        weights = jnp.where(has_title, weights.reshape(-1), 0)
        return {self.name: info_nce(left, right, items.reshape(-1), weights, scale)}

    def pairs(self, batch: Batch, keys: jax.Array) -> tuple[Batch, jax.Array, jax.Array, jax.Array]:
        """Draws what is aligned, by `own_keys` [B].

        Returns:
            The batch to encode; positions int32 [B, S] whose hidden states are asked; the next
            items there int32 [B, S] and their weights float32 [B, S], 0 in unused slots.
        """
        asked, positions, items, weights = NextItem(self.encoder, causal=self.causal).ask(batch)
        draw = row_uniform(keys, row_draws.TITLES, weights.shape[1:])
        score = jnp.where(weights > 0, draw, _NEVER)
        chosen, used = select_smallest(score, _NEVER, min(self.texts_per_row, draw.shape[1]))
        positions = chosen if positions is None else take(positions, chosen)
        return asked, positions, take(items, chosen), jnp.where(used, take(weights, chosen), 0)

    def _space(self) -> CommonSpace:
        return CommonSpace(self.dim)

    def _init_head(self, key: jax.Array) -> Any:
        widths = self.encoder.hidden_dim, self.text.hidden_dim
        return self._space().init(key, *(jnp.zeros((1, width)) for width in widths))["params"]
