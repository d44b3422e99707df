"""Items and texts in one sequence: an item's vector stands before its title as one more token.

What a title says thus reaches the item's embedding, which the behaviour encoder and the output
layer share, and costs nothing at serving time. Called by the trainer through the task interface
(see `recjax.tasks`), in a mixture.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from recjax.models import MASK_ID, ItemBias, ItemToken, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import ItemTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.text_task import TextTask
from recjax.tasks.word_masks import MaskedWords, mask_words


@dataclasses.dataclass(frozen=True)
class JointItemText(ItemTask, TextTask):
    """One side is hidden and predicted with the other in view.

    For half of the drawn items, at random, the item is hidden and predicted over the catalogue from
    its whole title; for the others words are hidden and predicted with the item in view.

    Attributes:
        mask_id: token id of [MASK].
        mask_rate: share of the words that are predicted where the item is in view, 0 < rate <= 1.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Sun et al. (2019), "VideoBERT", one sequence of both kinds; Chen et al. (2020), "UNITER",
        Sec. 3.2: only one side is masked at a time.
    """

    mask_id: int = 4
    mask_rate: float = 0.15
    name: ClassVar[str] = "joint_item_text"
    site: ClassVar[int] = row_draws.JOINT_ITEM_TEXT

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_rate <= 1:
            raise ValueError(f"text.mask_rate must be in (0, 1], got {self.mask_rate}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"joint_item_text/item": ..., "joint_item_text/words": ...}, (nats, weight) each.

        Args:
            params: {"encoder", "head", "text"}.
            batch: items int32 [B, T], weights float32 [B, T].
            constants: item_tokens int32 [V, L], token_kind int32 [W], and item_category int32 [V]
                where "category" is an input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        keys = self.own_keys(batch, keys)
        items = self.draw_items(batch, keys)[0]
        tokens, text_keys = self.titles(items, constants), self.text_keys(keys, items.shape[1])
        asks_item, words = self._hide_one_side(tokens, constants["token_kind"], text_keys)
        shown = jnp.where(asks_item, MASK_ID, items.reshape(-1))
        segments = self.segments(tokens)
        hidden = self._encode_joint(
            params, shown, words.tokens, segments, constants, text_keys if train else None
        )
        query = self._call_head(params, "query", hidden[:, 0]).reshape(*items.shape, -1)
        weights = (asks_item & (segments.sum(axis=1) > 0)).astype(jnp.float32)
        weights = weights.reshape(items.shape)
        return {
            f"{self.name}/item": self._item_loss(params, query, items, weights, keys),
            f"{self.name}/words": self._word_loss(params, hidden[:, 1:], words),
        }

    def _hide_one_side(
        self, tokens: jax.Array, token_kind: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, MaskedWords]:
        """Draws whether the item of a text is hidden, bool [N]; where not, some of its words."""
        asks_item = row_uniform(keys, row_draws.SIDES, ()) < 0.5
        words = mask_words(tokens, token_kind, keys, rate=self.mask_rate, mask_id=self.mask_id)
        words = words._replace(
            tokens=jnp.where(asks_item[:, None], tokens, words.tokens),
            weights=jnp.where(asks_item[:, None], 0, words.weights),
        )
        return asks_item, words

    def _encode_joint(
        self,
        params: Params,
        items: jax.Array,
        tokens: jax.Array,
        segments: jax.Array,
        constants: Batch,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Encodes [item, its title], float [N, 1 + L, D_t]."""
        vectors = self._call_encoder(params, "embed_items", items, constants)
        token = self._call_head(params, "token", vectors)
        title = self._call_text(params, "embed", {"tokens": tokens})
        x = jnp.concatenate([token[:, None].astype(title.dtype), title], axis=1)
        segments = jnp.pad(segments, ((0, 0), (1, 0)), constant_values=1)
        return self._call_text(params, "encode", x, {"segments": segments}, False, keys)

    def _call_head(self, params: Params, method: str, x: jax.Array) -> Any:
        variables = {"params": params["head"]["item_token"]}
        return self._item_token().apply(variables, x, method=method)

    def _item_token(self) -> ItemToken:
        return ItemToken(self.text, self.encoder.hidden_dim)

    def _init_head(self, key: jax.Array) -> Any:
        vectors = jnp.zeros((1, self.encoder.hidden_dim))
        bias = ItemBias(self.encoder.table_rows).init(key)["params"]
        return {"item_token": self._item_token().init(key, vectors)["params"], **bias}
