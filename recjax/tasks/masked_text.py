"""Masked language model on the titles of the batch's items, and on documents of a corpus.

Called by the trainer through the task interface (see `recjax.tasks`), in a mixture.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from recjax.models import fold_in_rows
from recjax.tasks import row_draws
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.text_task import TextTask
from recjax.tasks.word_masks import mask_words


@dataclasses.dataclass(frozen=True)
class MaskedText(TextTask):
    """Whole words are hidden and predicted from the rest of their title or document.

    Attributes:
        mask_id: token id of [MASK].
        mask_rate: share of the words of a text that are predicted, 0 < rate <= 1.
        with_corpus: whether each row also gives `texts_per_row` rows of the corpus.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Devlin et al. (2019), "BERT", Sec. 3.1, Task 1.
    """

    mask_id: int = 4
    mask_rate: float = 0.15
    with_corpus: bool = False
    name: ClassVar[str] = "masked_text"
    site: ClassVar[int] = row_draws.MASKED_TEXT

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
        """Returns {"masked_text": (sum of nats, predicted tokens)}.

        Args:
            params: {"text", ...}.
            batch: items int32 [B, T], weights float32 [B, T].
            constants: item_tokens int32 [V, L], token_kind int32 [W], with a corpus corpus_tokens
                int32 [C, L].
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        keys = self.own_keys(batch, keys)
        tokens = self.titles(self.draw_items(batch, keys)[0], constants)
        if self.with_corpus:
            tokens = self._with_documents(tokens, constants["corpus_tokens"], keys)
        text_keys = self.text_keys(keys, len(tokens) // len(keys))
        words = mask_words(
            tokens, constants["token_kind"], text_keys, rate=self.mask_rate, mask_id=self.mask_id
        )
        dropout_keys = text_keys if train else None
        hidden = self.encode_texts(params, words.tokens, self.segments(tokens), dropout_keys)
        return {self.name: self._word_loss(params, hidden, words)}

    def _with_documents(self, titles: jax.Array, corpus: jax.Array, keys: jax.Array) -> jax.Array:
        """Puts as many random rows of the corpus beside each row's titles, [2 * B * S, L]."""
        rows = titles.reshape(len(keys), -1, titles.shape[-1])
        draw = jax.vmap(lambda key: jax.random.randint(key, rows.shape[1:2], 0, len(corpus)))
        documents = jnp.take(corpus, draw(fold_in_rows(keys, row_draws.DOCUMENTS)), axis=0)
        return jnp.concatenate([rows, documents], axis=1).reshape(-1, titles.shape[-1])

    def _init_head(self, key: jax.Array) -> Any:
        """The head lies with the text encoder, whose word table it uses."""
        del key
        return {}
