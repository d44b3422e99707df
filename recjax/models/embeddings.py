"""Turns events into vectors: the sum of item, action, position, gap and category embeddings.

The special ids are those of `recjax.data.vocabulary` (a test holds them together; models import
no data code). `TextEmbedding` does the same for the tokens of a text. Called by
`recjax.models.event_encoder` and `recjax.models.text_bert`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.initialisers import partitioned, table_init
from recjax.models.item_axis import look_up

PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID = range(5)
NUM_SPECIALS = 5
INPUTS = ("item", "action", "position", "gap", "category")


class Table(nn.Module):
    """An embedding table float32 [V, D].

    Attributes:
        num_rows: V.
        dim: D.
        axes: logical names of the two axes.
    """

    num_rows: int
    dim: int
    axes: tuple[str | None, str | None] = (None, "embed")

    def setup(self) -> None:
        """Declares the table."""
        init = partitioned(table_init, self.axes)
        self.table = self.param("table", init, (self.num_rows, self.dim), jnp.float32)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Looks up ids int32 [...] -> float32 [..., D]."""
        if self.axes[0] == "vocab":
            return look_up(self.table, ids)
        return jnp.take(self.table, ids, axis=0, mode="clip")


class EventEmbedding(nn.Module):
    """The sum of the embeddings that `inputs` names.

    The action and gap tables have one row more than there are ids, for "hidden" (the ids
    `num_actions` and `num_gap_bins`), which masked events and [MASK] queries use.

    Attributes:
        inputs: names out of `INPUTS`, "item" among them.
        vocab_size: rows of the item table, specials included.
        num_actions: action ids.
        num_gap_bins: time-gap bins.
        num_categories: category ids, 0 (none) included.
        max_len: positions.
        dim: D.
    """

    inputs: tuple[str, ...]
    vocab_size: int
    num_actions: int
    num_gap_bins: int
    num_categories: int
    max_len: int
    dim: int

    def setup(self) -> None:
        """Declares one table per input."""
        self.item = Table(self.vocab_size, self.dim, ("vocab", "embed"))
        sizes = {
            "action": self.num_actions + 1,
            "position": self.max_len,
            "gap": self.num_gap_bins + 1,
            "category": self.num_categories,
        }
        for name in self.inputs:
            if name != "item":
                setattr(self, name, Table(sizes[name], self.dim))

    def __call__(self, batch: dict[str, jax.Array], constants: dict[str, jax.Array]) -> jax.Array:
        """Embeds a batch of sequences.

        Args:
            batch: items, actions, positions, gaps int32 [B, T] (those that `inputs` names).
            constants: item_category int32 [V] where "category" is an input.

        Returns:
            float32 [B, T, D].
        """
        x = self.embed_items(batch["items"], constants)
        for name, field in (("action", "actions"), ("position", "positions"), ("gap", "gaps")):
            if name in self.inputs:
                x = x + getattr(self, name)(batch[field])
        return x

    def embed_items(self, items: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
        """Embeds item ids int32 [...] with their categories -> float32 [..., D]."""
        x = self.item(items)
        if "category" in self.inputs:
            x = x + self.category(jnp.take(constants["item_category"], items, mode="clip"))
        return x


class TextEmbedding(nn.Module):
    """The sum of word, position and token type embeddings, as in BERT.

    Attributes:
        vocab_size: token ids V.
        num_token_types: token types.
        max_len: positions.
        dim: D.
    """

    vocab_size: int
    num_token_types: int
    max_len: int
    dim: int

    def setup(self) -> None:
        """Declares the three tables."""
        self.word = Table(self.vocab_size, self.dim, ("words", "embed"))
        self.position = Table(self.max_len, self.dim)
        self.token_type = Table(self.num_token_types, self.dim)

    def __call__(self, tokens: jax.Array, positions: jax.Array, types: jax.Array) -> jax.Array:
        """Embeds tokens, positions and token types int32 [B, T] -> float32 [B, T, D]."""
        return self.word(tokens) + self.token_type(types) + self.position(positions)

    def word_table(self) -> jax.Array:
        """Returns the word table float32 [V, D], which tied outputs use again."""
        return self.word.table
