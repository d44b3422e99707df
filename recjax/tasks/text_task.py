"""What the text objectives share: a text encoder beside the behaviour encoder, and titles to read.

Parameters {"encoder", "head", "text"}: "text" is a whole `TextBert` with its masked-token head. The
objectives of a mixture train the same one, and it is what remains of them: a Hugging Face folder
that the features stage can open.
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax

from recjax.models import (
    NUM_SPECIALS,
    TextBert,
    TextConfig,
    fold_in_rows,
    init_text_bert,
    row_uniform,
)
from recjax.models.item_axis import look_up
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import EncoderTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import select_smallest, take
from recjax.tasks.word_masks import MaskedWords

_NEVER = 2.0  # a score no drawn one reaches


@dataclasses.dataclass(frozen=True)
class TextTask(EncoderTask):
    """A task that reads titles.

    Attributes:
        text: sizes and settings of the text encoder.
        texts_per_row: titles that one row of a batch gives, at least 1.
        site: of the task in `row_draws`, so that two tasks draw different titles.

    Raises:
        ValueError: if texts_per_row is below 1.
    """

    text: TextConfig
    texts_per_row: int = 4
    site: ClassVar[int]

    def __post_init__(self) -> None:
        if self.texts_per_row < 1:
            raise ValueError(f"texts_per_row must be at least 1, got {self.texts_per_row}")

    def own_keys(self, batch: Batch, keys: jax.Array | None) -> jax.Array:
        """Returns the task's keys of the rows [B]; None draws by the row's items, always alike."""
        keys = row_draws.content_keys(batch["items"]) if keys is None else keys
        return fold_in_rows(keys, self.site)

    def draw_items(self, batch: Batch, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws events of each row, and with them the items whose titles are read.

        Args:
            batch: items int32 [B, T], weights float32 [B, T].
            keys: of `own_keys`, [B].

        Returns:
            items int32 [B, S], 0 ([PAD]) in unused slots, and whether a slot is used, bool [B, S].
        """
        may = (batch["items"] >= NUM_SPECIALS) & (batch["weights"] > 0)
        draw = row_uniform(keys, row_draws.TITLES, may.shape[1:])
        score = jnp.where(may, draw, _NEVER)
        positions, drawn = select_smallest(score, _NEVER, min(self.texts_per_row, may.shape[1]))
        return jnp.where(drawn, take(batch["items"], positions), 0), drawn

    def titles(self, items: jax.Array, constants: Batch) -> jax.Array:
        """Looks up the titles of items int32 [B, S] -> tokens int32 [B * S, L]."""
        tokens = look_up(constants["item_tokens"], items)
        return tokens.reshape(-1, tokens.shape[-1])

    def text_keys(self, keys: jax.Array, count: int) -> jax.Array:
        """Returns one key per text [B * count], made from `own_keys` of the rows [B]."""
        number = jax.vmap(jax.random.fold_in, (None, 0))
        numbered = jax.vmap(number, (0, None))
        return numbered(fold_in_rows(keys, row_draws.TEXTS), jnp.arange(count)).reshape(-1)

    def segments(self, tokens: jax.Array) -> jax.Array:
        """Returns int32 [N, L]: 1 on tokens, 0 on padding."""
        return jnp.where(tokens == self.text.pad_id, 0, 1).astype(jnp.int32)

    def encode_texts(
        self, params: Params, tokens: jax.Array, segments: jax.Array, keys: jax.Array | None
    ) -> jax.Array:
        """Encodes tokens int32 [N, L] -> hidden states float [N, L, D_t]; keys [N] for dropout."""
        x = self._call_text(params, "embed", {"tokens": tokens})
        return self._call_text(params, "encode", x, {"segments": segments}, False, keys)

    def _call_text(self, params: Params, method: str, *arguments: Any) -> jax.Array:
        variables = {"params": params["text"]}
        return cast(jax.Array, TextBert(self.text).apply(variables, *arguments, method=method))

    def _word_loss(
        self, params: Params, hidden: jax.Array, words: MaskedWords
    ) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy of hidden words over the vocabulary, given hidden states [N, L, D_t]."""
        at = take(hidden, words.positions)
        logits = self._call_text(params, "masked_token_logits", at)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, words.targets)
        return (losses * words.weights).sum(), words.weights.sum()

    def _init_towers(self, key: jax.Array) -> Params:
        return {"text": init_text_bert(self.text, key, ("masked_token",))}
