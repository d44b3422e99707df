"""The behaviour encoder: a BERT over events, bidirectional or causal by argument.

`embed` and `encode` are separate calls, so that adversarial passes and alignment losses can work on
the vectors between them. Parameters are a plain tree, float32. What is predicted from the hidden
states lives in `recjax.tasks`. Called by `recjax.tasks`.
"""

import dataclasses

import jax

from recjax.models.blocks import BodyConfig, Encoder, by_rows
from recjax.models.embeddings import INPUTS, EventEmbedding


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(BodyConfig):
    """Sizes and settings of the encoder; see also `BodyConfig`.

    Field names equal the keys of `config.model`, norm_epsilon aside.

    Attributes:
        vocab_size: item ids, the five specials included.
        num_actions: action ids.
        num_gap_bins: time-gap bins.
        num_categories: category ids, 0 (none) included.
        inputs: what an event's embedding is made of; "item" is required.
        vocab_multiple: the item table has rows for a multiple of this many ids, so that it can be
            cut evenly over devices.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    vocab_size: int
    num_actions: int
    num_gap_bins: int
    num_categories: int
    inputs: tuple[str, ...] = INPUTS
    vocab_multiple: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "inputs", tuple(self.inputs))
        unknown = set(self.inputs) - set(INPUTS)
        if unknown or "item" not in self.inputs:
            raise ValueError(f"inputs must hold 'item' and be among {INPUTS}, got {self.inputs}")
        if self.vocab_multiple < 1:
            raise ValueError(f"vocab_multiple must be at least 1, got {self.vocab_multiple}")

    @property
    def table_rows(self) -> int:
        """Rows of the item table: vocab_size, rounded up to a multiple of vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


class BertEncoder(Encoder):
    """Encodes packed or single sequences of events.

    Attributes:
        config: sizes and settings.
    """

    config: EncoderConfig

    def setup(self) -> None:
        """Declares embeddings, blocks and norms."""
        super().setup()
        config = self.config
        self.embedding = EventEmbedding(
            inputs=config.inputs,
            vocab_size=config.table_rows,
            num_actions=config.num_actions,
            num_gap_bins=config.num_gap_bins,
            num_categories=config.num_categories,
            max_len=config.max_len,
            dim=config.hidden_dim,
        )

    def __call__(
        self,
        batch: dict[str, jax.Array],
        constants: dict[str, jax.Array],
        causal: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """`encode(embed(batch))`, float [B, T, D]."""
        return self.encode(self.embed(batch, constants), batch["segments"], causal, keys)

    def embed(self, batch: dict[str, jax.Array], constants: dict[str, jax.Array]) -> jax.Array:
        """Embeds and normalises the events of a batch.

        Args:
            batch: items, actions, gaps, positions int32 [B, T]; positions < max_len.
            constants: item_category int32 [V] where "category" is an input.

        Returns:
            float [B, T, D] in the compute dtype.

        Raises:
            ValueError: if T is above max_len and positions are an input.
        """
        length = batch["items"].shape[-1]
        if "position" in self.config.inputs and length > self.config.max_len:
            raise ValueError(f"rows of {length} events exceed model.max_len {self.config.max_len}")
        return by_rows(self.embedding_norm(self.embedding(batch, constants)))

    def embed_items(self, items: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
        """Embeds candidate items int32 [B] with their categories -> float32 [B, D]."""
        return self.embedding.embed_items(items, constants)
