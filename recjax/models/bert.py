"""The behaviour encoder: a BERT over events, bidirectional or causal by argument.

`embed` and `encode` are separate calls, so that adversarial passes and alignment losses can work on
the vectors between them. Parameters are a plain tree, float32. What is predicted from the hidden
states lives in `recjax.tasks`. Called by `recjax.tasks`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.attention import SelfAttention
from recjax.models.dropout import dropout
from recjax.models.embeddings import INPUTS, EventEmbedding
from recjax.models.initialisers import kernel_init, partitioned

# Dropout sites: one constant per place, so that no two places share a mask.
_EMBEDDING_SITE = 1
_SITES_PER_LAYER = 8


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes and settings of the encoder; field names equal the keys of `config.model`.

    Attributes:
        vocab_size: item ids, the five specials included.
        num_actions: action ids.
        num_gap_bins: time-gap bins.
        num_categories: category ids, 0 (none) included.
        num_layers: transformer blocks.
        hidden_dim: width D.
        num_heads: attention heads, a divisor of hidden_dim.
        mlp_dim: width of the feed-forward part.
        max_len: longest sequence, in events.
        dropout_rate: after the embeddings and after both parts of a block.
        attention_dropout_rate: on the attention weights.
        norm: "pre" (layer norm before each part) or "post" (after, as in BERT).
        dtype: compute dtype, "float32" or "bfloat16".
        inputs: what an event's embedding is made of; "item" is required.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    vocab_size: int
    num_actions: int
    num_gap_bins: int
    num_categories: int
    num_layers: int = 2
    hidden_dim: int = 64
    num_heads: int = 2
    mlp_dim: int = 256
    max_len: int = 50
    dropout_rate: float = 0.2
    attention_dropout_rate: float = 0.2
    norm: str = "pre"
    dtype: str = "float32"
    inputs: tuple[str, ...] = INPUTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} not divisible by {self.num_heads} heads"
            )
        if self.norm not in ("pre", "post"):
            raise ValueError(f"norm must be 'pre' or 'post', got {self.norm!r}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {self.dtype!r}")
        unknown = set(self.inputs) - set(INPUTS)
        if unknown or "item" not in self.inputs:
            raise ValueError(f"inputs must hold 'item' and be among {INPUTS}, got {self.inputs}")
        for name in ("dropout_rate", "attention_dropout_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


class Block(nn.Module):
    """One transformer block: self-attention, then a GELU feed-forward part, each with residual.

    Attributes:
        config: the encoder's settings.
        layer: number of the block, for its dropout sites.
    """

    config: EncoderConfig
    layer: int

    @nn.compact
    def __call__(
        self, x: jax.Array, segments: jax.Array, causal: bool, keys: jax.Array | None
    ) -> jax.Array:
        """Maps float [B, T, D] to float [B, T, D]."""
        config = self.config
        site = _EMBEDDING_SITE + 1 + self.layer * _SITES_PER_LAYER
        attention = SelfAttention(
            config.num_heads,
            config.attention_dropout_rate,
            jnp.dtype(config.dtype),
            name="attention",
        )
        norms = [_layer_norm(config, name) for name in ("attention_norm", "mlp_norm")]
        parts = (
            lambda y: attention(y, segments, causal, keys, site),
            lambda y: self._mlp(y),
        )
        for index, (norm, part) in enumerate(zip(norms, parts, strict=True)):
            y = part(norm(x) if config.norm == "pre" else x)
            x = x + dropout(y, config.dropout_rate, keys, site=site + 1 + index)
            x = norm(x) if config.norm == "post" else x
        return x

    def _mlp(self, x: jax.Array) -> jax.Array:
        wide = _dense(self.config.mlp_dim, self.config, ("embed", "mlp"), "mlp_in")(x)
        return _dense(self.config.hidden_dim, self.config, ("mlp", "embed"), "mlp_out")(
            nn.gelu(wide, approximate=False)
        )


class BertEncoder(nn.Module):
    """Encodes packed or single sequences of events.

    Attributes:
        config: sizes and settings.
    """

    config: EncoderConfig

    def setup(self) -> None:
        """Declares embeddings, blocks and norms."""
        config = self.config
        self.embedding = EventEmbedding(
            inputs=config.inputs,
            vocab_size=config.vocab_size,
            num_actions=config.num_actions,
            num_gap_bins=config.num_gap_bins,
            num_categories=config.num_categories,
            max_len=config.max_len,
            dim=config.hidden_dim,
        )
        self.embedding_norm = _layer_norm(config)
        self.layers = [Block(config, index) for index in range(config.num_layers)]
        if config.norm == "pre":
            self.final_norm = _layer_norm(config)

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
        return self.embedding_norm(self.embedding(batch, constants))

    def embed_items(self, items: jax.Array, constants: dict[str, jax.Array]) -> jax.Array:
        """Embeds candidate items int32 [B] with their categories -> float32 [B, D]."""
        return self.embedding.embed_items(items, constants)

    def encode(
        self, x: jax.Array, segments: jax.Array, causal: bool, keys: jax.Array | None = None
    ) -> jax.Array:
        """Runs the blocks.

        Args:
            x: float [B, T, D], from `embed`.
            segments: int32 [B, T]; 0 is padding, sequences of one row have different numbers.
            causal: whether events are kept from seeing later ones (static).
            keys: typed PRNG keys [B] for dropout, or None for none.

        Returns:
            Hidden states float [B, T, D] in the compute dtype; of no meaning on padding.
        """
        x = dropout(x, self.config.dropout_rate, keys, site=_EMBEDDING_SITE)
        for layer in self.layers:
            x = layer(x, segments, causal, keys)
        return self.final_norm(x) if self.config.norm == "pre" else x


def _layer_norm(config: EncoderConfig, name: str | None = None) -> nn.LayerNorm:
    """Layer norm with float32 statistics."""
    return nn.LayerNorm(
        dtype=jnp.dtype(config.dtype),
        scale_init=partitioned(nn.initializers.ones_init(), ("embed",)),
        bias_init=partitioned(nn.initializers.zeros_init(), ("embed",)),
        name=name,
    )


def _dense(features: int, config: EncoderConfig, axes: tuple[str, str], name: str) -> nn.Dense:
    return nn.Dense(
        features,
        dtype=jnp.dtype(config.dtype),
        kernel_init=partitioned(kernel_init, axes),
        bias_init=partitioned(nn.initializers.zeros_init(), axes[1:]),
        name=name,
    )
