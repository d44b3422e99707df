"""The text encoder: BERT as Hugging Face has it, with the blocks of the behaviour encoder.

`embed` and `encode` are separate calls; logits over the vocabulary are made only when asked for.
Parameters are a plain float32 tree; `recjax.models.pretrained` reads and writes it as a Hugging
Face folder. A parity test holds it to transformers' PyTorch BERT.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.models.blocks import BodyConfig, Encoder, dense
from recjax.models.embeddings import TextEmbedding
from recjax.models.heads import MaskedTokenHead, Pooler

HEADS = ("pooler", "masked_token", "next_sentence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(BodyConfig):
    """Sizes and settings of a text BERT; see also `BodyConfig`. Defaults are those of BERT-base.

    Attributes:
        vocab_size: token ids.
        num_token_types: token types ("sentence A", "sentence B").
        pad_id: token that fills the tail of a text; None where there is none.
        other_settings: JSON object, what a folder's config.json says beyond the model itself; kept
            so that nothing is lost when the folder is written again.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    vocab_size: int = 30522
    num_token_types: int = 2
    pad_id: int | None = 0
    num_layers: int = 12
    hidden_dim: int = 768
    num_heads: int = 12
    mlp_dim: int = 3072
    max_len: int = 512
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    norm: str = "post"
    norm_epsilon: float = 1e-12
    other_settings: str = "{}"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab_size", "num_token_types"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class TextOutput(NamedTuple):
    """What a text BERT says of a batch.

    Attributes:
        hidden: float [B, T, D] in the compute dtype; of no meaning on padding.
        pooled: float [B, D], the pooler's summary.
    """

    hidden: jax.Array
    pooled: jax.Array


class TextBert(Encoder):
    """Encodes texts; bidirectional.

    Attributes:
        config: sizes and settings.
    """

    config: TextConfig

    def setup(self) -> None:
        """Declares embeddings, blocks and the three heads."""
        super().setup()
        config = self.config
        self.embedding = TextEmbedding(
            vocab_size=config.vocab_size,
            num_token_types=config.num_token_types,
            max_len=config.max_len,
            dim=config.hidden_dim,
        )
        self.pooler = Pooler(config)
        self.masked_token = MaskedTokenHead(config, config.vocab_size)
        self.next_sentence = dense(2, config, ("embed", None))

    def __call__(self, batch: dict[str, jax.Array], keys: jax.Array | None = None) -> TextOutput:
        """Embeds, encodes and pools a batch; without a pooler call `embed` and `encode`.

        Args:
            batch: see `embed`; segments int32 [B, T], 0 is padding.
            keys: typed PRNG keys [B] for dropout, or None for none.

        Returns:
            Hidden states [B, T, D] and pooled output [B, D].
        """
        hidden = self.encode(self.embed(batch), batch, False, keys)
        return TextOutput(hidden, self.pooler(hidden))

    def embed(self, batch: dict[str, jax.Array]) -> jax.Array:
        """Embeds and normalises the tokens of a batch.

        Args:
            batch: tokens int32 [B, T]; positions int32 [B, T] (0, 1, ... where absent) and
                token_types int32 [B, T] (0 where absent).

        Returns:
            float [B, T, D] in the compute dtype.

        Raises:
            ValueError: if T is above max_len.
        """
        tokens = batch["tokens"]
        length = tokens.shape[-1]
        if length > self.config.max_len:
            raise ValueError(f"texts of {length} tokens exceed max_len {self.config.max_len}")
        counted = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), tokens.shape)
        positions = batch.get("positions", counted)
        types = batch.get("token_types", jnp.zeros_like(tokens))
        return self.embedding_norm(self.embedding(tokens, positions, types))

    def masked_token_logits(self, hidden: jax.Array) -> jax.Array:
        """Maps hidden states float [..., D], best few of them, to float32 logits [..., V]."""
        x, bias = self.masked_token(hidden)
        table = self.embedding.word_table().astype(x.dtype)
        logits = jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
        return logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))

    def next_sentence_logits(self, pooled: jax.Array) -> jax.Array:
        """Maps pooled outputs float [B, D] to float32 [B, 2]; 0 is "the second part follows"."""
        return self.next_sentence(pooled).astype(jnp.float32)

    def everything(self, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        """Returns logits float32 [B, T, V] and [B, 2]: uses, hence initialises, every parameter."""
        hidden, pooled = self(batch)
        return self.masked_token_logits(hidden), self.next_sentence_logits(pooled)


def init_text_bert(
    config: TextConfig, key: jax.Array, heads: tuple[str, ...] = HEADS
) -> dict[str, Any]:
    """Returns fresh, boxed parameters of a text BERT.

    Args:
        config: sizes and settings.
        key: PRNG key, scalar; a head's parameters do not depend on which others there are.
        heads: names out of `HEADS` to make parameters for.

    Raises:
        ValueError: if a head is unknown.
    """
    unknown = set(heads) - set(HEADS)
    if unknown:
        raise ValueError(f"heads are among {HEADS}, got {sorted(unknown)}")
    ids = jnp.zeros((1, 2), jnp.int32)
    batch = {"tokens": ids, "segments": ids}
    params = TextBert(config).init(key, batch, method="everything")["params"]
    left_out = set(HEADS) - set(heads)
    return {name: leaf for name, leaf in params.items() if name not in left_out}


def mean_of_tokens(hidden: jax.Array, segments: jax.Array) -> jax.Array:
    """Returns the mean of hidden states float [B, T, D] where segments [B, T] are not 0.

    float32 [B, D]; 0 where there is padding only.
    """
    seen = (segments > 0)[..., None].astype(jnp.float32)
    total = (hidden.astype(jnp.float32) * seen).sum(axis=1)
    return total / jnp.maximum(seen.sum(axis=1), 1)
