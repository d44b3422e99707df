"""The behaviour encoder: events to hidden states, by the blocks that `encoder` names.

`embed` and `encode` are separate calls, so that adversarial passes and alignment losses can work on
the vectors between them. Parameters are a plain tree, float32. What is predicted from the hidden
states lives in `recjax.tasks`. Called by `recjax.tasks`.
"""

import dataclasses
from collections.abc import Mapping

import jax

from recjax.models.attention_kernels import choose_kernel
from recjax.models.blocks import Block, BodyConfig, Encoder, TransformerBlock, by_rows
from recjax.models.embeddings import INPUTS, EventEmbedding
from recjax.models.gru import GruBlock
from recjax.models.hstu import HstuBlock
from recjax.models.relative import MEASURES, Relations, elapsed_buckets, position_buckets

ENCODERS: Mapping[str, type[Block]] = {
    "bert": TransformerBlock,  # causal: a SASRec
    "hstu": HstuBlock,
    "gru": GruBlock,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(BodyConfig):
    """Sizes and settings of the encoder; see also `BodyConfig`.

    Field names equal the keys of `config.model`, but for norm_epsilon, adapter_dim and prefix_len.
    There `attention` may be "auto", which `on_platform` replaces.

    Attributes:
        vocab_size: item ids, the five specials included.
        num_actions: action ids.
        num_gap_bins: time-gap bins.
        num_categories: category ids, 0 (none) included.
        encoder: which blocks, one of `ENCODERS`.
        inputs: what an event's embedding is made of; "item" is required.
        relative_bias: what is added to the scores of pairs of events: none, or some of
            "position" (events between them) and "gap" (time between them).
        vocab_multiple: the item table has rows for a multiple of this many ids, so that it can be
            cut evenly over devices.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    vocab_size: int
    num_actions: int
    num_gap_bins: int
    num_categories: int
    encoder: str = "bert"
    inputs: tuple[str, ...] = INPUTS
    relative_bias: tuple[str, ...] = ()
    vocab_multiple: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {[*ENCODERS]}, got {self.encoder!r}")
        for name in ("inputs", "relative_bias"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        unknown = set(self.inputs) - set(INPUTS)
        if unknown or "item" not in self.inputs:
            raise ValueError(f"inputs must hold 'item' and be among {INPUTS}, got {self.inputs}")
        if self.vocab_multiple < 1:
            raise ValueError(f"vocab_multiple must be at least 1, got {self.vocab_multiple}")
        self._check_relative_bias()

    def _check_relative_bias(self) -> None:
        if set(self.relative_bias) - set(MEASURES):
            raise ValueError(f"relative_bias may hold {MEASURES}, got {self.relative_bias}")
        if self.relative_bias and not ENCODERS[self.encoder].has_attention:
            raise ValueError(
                f"relative_bias {self.relative_bias} needs an encoder with attention, not "
                f"{self.encoder!r}; () is right"
            )

    def on_platform(self, platform: str) -> "EncoderConfig":
        """Returns the settings with the kernel that computes attention on these devices.

        Args:
            platform: "cpu", "gpu" or "tpu". Of the devices that compute: in an ahead-of-time
                compile the process itself has others.

        Raises:
            ValueError: if the kernel asked for cannot serve; it says why and what would.
        """
        if ENCODERS[self.encoder] is not TransformerBlock:
            if self.attention not in ("auto", "xla"):
                raise ValueError(
                    f"attention {self.attention!r} is a kernel of softmax attention, which encoder "
                    f"{self.encoder!r} has not; 'xla' is right"
                )
            return dataclasses.replace(self, attention="xla")
        kernel = choose_kernel(
            self.attention,
            platform=platform,
            length=self.max_len,
            head_dim=self.hidden_dim // self.num_heads,
            dtype=self.dtype,
            dropout_rate=self.attention_dropout_rate,
            has_bias=bool(self.relative_bias),
        )
        return dataclasses.replace(self, attention=kernel)

    def check_direction(self, causal: bool) -> None:
        """Makes sure that the encoder can read as a task asks.

        Args:
            causal: whether events are kept from seeing later ones.

        Raises:
            ValueError: if it would have to look at later events and cannot.
        """
        if not causal and not ENCODERS[self.encoder].bidirectional:
            able = [name for name, block in ENCODERS.items() if block.bidirectional]
            raise ValueError(
                f"encoder {self.encoder!r} reads forward only and cannot serve a bidirectional "
                f"objective; take one of {able}, or read causally: next_item in "
                "pretrain.objectives, and finetune.next_item.causal=True"
            )

    @property
    def table_rows(self) -> int:
        """Rows of the item table: vocab_size, rounded up to a multiple of vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


class EventEncoder(Encoder):
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
        return self.encode(self.embed(batch, constants), batch, causal, keys)

    def block_type(self) -> type[Block]:
        """Returns what every layer is."""
        return ENCODERS[self.config.encoder]

    def relations(self, batch: dict[str, jax.Array]) -> Relations:
        """Returns the segments [B, T] of a batch, and buckets by what `relative_bias` names.

        Args:
            batch: segments int32 [B, T]; gaps int32 [B, T] where "gap" is named.
        """
        config, segments = self.config, batch["segments"]
        buckets = {}
        if "position" in config.relative_bias:
            buckets["position"] = position_buckets(segments.shape[1])
        if "gap" in config.relative_bias:
            buckets["gap"] = elapsed_buckets(
                batch["gaps"], num_gap_bins=config.num_gap_bins, max_len=config.max_len
            )
        return Relations(segments, buckets)

    def encode(
        self,
        x: jax.Array,
        batch: dict[str, jax.Array],
        causal: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Runs the blocks on float [B, T, D]; see `Encoder` and `relations`.

        Raises:
            ValueError: if the encoder cannot read in this direction.
        """
        self.config.check_direction(causal)
        return super().encode(x, batch, causal, keys)

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
