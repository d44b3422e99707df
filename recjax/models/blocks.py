"""The body that all encoders share: a stack of blocks, and the transformer block.

Layers are written out one by one or scanned, with or without recomputation in the backward pass;
all four give the same numbers. Called by `recjax.models.event_encoder` and
`recjax.models.text_bert`; the other blocks are in `recjax.models.hstu` and `recjax.models.gru`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.adapters import Adapter
from recjax.models.attention import SelfAttention
from recjax.models.dropout import dropout
from recjax.models.initialisers import kernel_init, partitioned
from recjax.models.relative import Relations

# Dropout sites: one constant per place, so that no two places share a mask.
_EMBEDDING_SITE = 1
_SITES_PER_LAYER = 8

# What a block keeps for the backward pass; the rest is computed again.
_REMAT_POLICIES: dict[str, Callable[..., Any] | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """Sizes and settings of the blocks.

    Attributes:
        num_layers: blocks.
        hidden_dim: width D.
        num_heads: attention heads, a divisor of hidden_dim.
        mlp_dim: width of the transformer's feed-forward part.
        max_len: positions; the longest sequence.
        dropout_rate: after the embeddings and after each part of a block.
        attention_dropout_rate: on the attention weights.
        attention: what computes it, one of `recjax.models.attention_kernels.KERNELS`.
        norm: "pre" (layer norm before each part) or "post" (after, as in BERT).
        norm_epsilon: added to the variance in a layer norm.
        dtype: compute dtype, "float32" or "bfloat16".
        scan: whether one block is compiled and run num_layers times; compiles faster, and the
            layers' parameters are one tree with a leading layer axis (see `stack_layers`).
        remat: what the backward pass computes again: "none", "dots" (all but matrix products with
            weights) or "full".
        adapter_dim: width of the bottleneck behind each part of a block; 0 = none.
        prefix_len: learned positions that each attention looks at too; 0 = none.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    num_layers: int = 2
    hidden_dim: int = 64
    num_heads: int = 2
    mlp_dim: int = 256
    max_len: int = 50
    dropout_rate: float = 0.2
    attention_dropout_rate: float = 0.2
    attention: str = "xla"
    norm: str = "pre"
    norm_epsilon: float = 1e-6
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"
    adapter_dim: int = 0
    prefix_len: int = 0

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_dim", "num_heads", "mlp_dim", "max_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} not divisible by {self.num_heads} heads"
            )
        if self.norm not in ("pre", "post"):
            raise ValueError(f"norm must be 'pre' or 'post', got {self.norm!r}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {self.dtype!r}")
        if self.remat not in _REMAT_POLICIES:
            raise ValueError(f"remat must be one of {[*_REMAT_POLICIES]}, got {self.remat!r}")
        for name in ("dropout_rate", "attention_dropout_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


class Block(nn.Module):
    """What one layer is to the body; subclasses map float [B, T, D] to float [B, T, D].

    Attributes:
        config: the encoder's settings.
        bidirectional: whether it can look at later events.
        has_attention: whether it compares pairs of events.
    """

    config: BodyConfig
    bidirectional: ClassVar[bool] = True
    has_attention: ClassVar[bool] = True

    def residual(
        self,
        x: jax.Array,
        norm_name: str,
        part: Callable[[jax.Array], jax.Array],
        keys: jax.Array | None,
        site: int | jax.Array,
    ) -> jax.Array:
        """Adds dropout(part(x)) to x [B, T, D], with a layer norm before the part or at the end.

        Where `adapter_dim` asks for it, an adapter stands behind the part.
        """
        config, norm = self.config, layer_norm(self.config, norm_name)
        y = part(norm(x) if config.norm == "pre" else x)
        if config.adapter_dim:
            name = norm_name.replace("norm", "adapter")
            y = Adapter(config.adapter_dim, y.dtype, name=name)(y)
        x = x + dropout(y, config.dropout_rate, keys, site=site)
        return norm(x) if config.norm == "post" else x

    @staticmethod
    def first_site(layer: int | jax.Array) -> int | jax.Array:
        """Returns the first dropout site, scalar, of a block; the next seven are its own too."""
        return _EMBEDDING_SITE + 1 + layer * _SITES_PER_LAYER


class TransformerBlock(Block):
    """Self-attention, then a GELU feed-forward part, each with residual."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: int | jax.Array,
        relations: Relations,
        keys: jax.Array | None,
        causal: bool,
    ) -> tuple[jax.Array, None]:
        """Maps float [B, T, D] to float [B, T, D]; the None is what a scan stacks.

        Args:
            x: float [B, T, D].
            layer: number of the block, for its dropout sites; scalar.
            relations: segments [B, T] and what else is known of pairs of events.
            keys: typed PRNG keys [B], or None for no dropout.
            causal: whether a position is kept from seeing later ones (static).
        """
        config, site = self.config, self.first_site(layer)
        attention = SelfAttention(
            config.num_heads,
            config.attention_dropout_rate,
            jnp.dtype(config.dtype),
            config.attention,
            config.prefix_len,
            name="attention",
        )
        x = self.residual(
            x,
            "attention_norm",
            lambda y: attention(y, relations, causal, keys, site),
            keys,
            site + 1,
        )
        x = self.residual(x, "mlp_norm", self._mlp, keys, site + 2)
        return by_rows(x), None

    def _mlp(self, x: jax.Array) -> jax.Array:
        config = self.config
        wide = dense(config.mlp_dim, config, ("embed", "mlp"), "mlp_in")(x)
        return dense(config.hidden_dim, config, ("mlp", "embed"), "mlp_out")(gelu(wide))


class Encoder(nn.Module):
    """Layer norm and dropout of embeddings, then the blocks; subclasses add the embeddings.

    Subclasses may also have other blocks, and more relations than segments.

    Attributes:
        config: sizes and settings.
    """

    config: BodyConfig

    def setup(self) -> None:
        """Declares norms and blocks."""
        config = self.config
        self.embedding_norm = layer_norm(config)
        if config.scan:
            self.layers = _scanned(self.block_type(), config)(config)
        else:
            block_type = _rematerialised(self.block_type(), config)
            self.layers = [block_type(config) for _ in range(config.num_layers)]
        if config.norm == "pre":
            self.final_norm = layer_norm(config)

    def block_type(self) -> type[Block]:
        """Returns what every layer is."""
        return TransformerBlock

    def relations(self, batch: dict[str, jax.Array]) -> Relations:
        """Returns what the blocks are told of a batch [B, T] besides its vectors."""
        return Relations(batch["segments"], {})

    def encode(
        self,
        x: jax.Array,
        batch: dict[str, jax.Array],
        causal: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Runs the blocks.

        Args:
            x: float [B, T, D], from `embed`.
            batch: segments int32 [B, T] (0 is padding, sequences of one row have different
                numbers), and what else `relations` reads.
            causal: whether positions are kept from seeing later ones (static).
            keys: typed PRNG keys [B] for dropout, or None for none.

        Returns:
            Hidden states float [B, T, D] in the compute dtype; of no meaning on padding.
        """
        relations = self.relations(batch)
        x = dropout(x, self.config.dropout_rate, keys, site=_EMBEDDING_SITE)
        if self.config.scan:
            numbers = jnp.arange(self.config.num_layers)
            x, _ = self.layers(x, numbers, relations, keys, causal)
        else:
            for number, layer in enumerate(self.layers):
                x, _ = layer(x, number, relations, keys, causal)
        return self.final_norm(x) if self.config.norm == "pre" else x


def _rematerialised(block_type: type[Block], config: BodyConfig) -> Any:
    policy = _REMAT_POLICIES[config.remat]
    if policy is None:
        return block_type
    # Inside a scan nothing can merge the two computations; elsewhere a barrier must stop it.
    return nn.remat(block_type, policy=policy, prevent_cse=not config.scan, static_argnums=(5,))


def _scanned(block_type: type[Block], config: BodyConfig) -> Any:
    return nn.scan(
        _rematerialised(block_type, config),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
        length=config.num_layers,
        metadata_params={nn.meta.PARTITION_NAME: None},
    )


def stack_layers(params: dict[str, Any]) -> dict[str, Any]:
    """Turns an encoder's layers_0, layers_1, ... into `layers`, as `scan` wants them.

    Args:
        params: parameters of an encoder without scan; layers [...] each.

    Returns:
        The same with layers [L, ...] under one name.
    """
    names = sorted((n for n in params if n.startswith("layers_")), key=lambda n: int(n[7:]))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[n] for n in names))
    return {n: leaf for n, leaf in params.items() if n not in names} | {"layers": stacked}


def unstack_layers(params: dict[str, Any]) -> dict[str, Any]:
    """Undoes `stack_layers`: `layers` [L, ...] becomes layers_0, layers_1, ..., each [...]."""
    count = len(jax.tree.leaves(params["layers"])[0])
    rest = {name: leaf for name, leaf in params.items() if name != "layers"}
    return rest | {
        f"layers_{number}": jax.tree.map(lambda leaf: leaf[number], params["layers"])  # noqa: B023
        for number in range(count)
    }


def by_rows(x: jax.Array) -> jax.Array:
    """Keeps activations [B, T, D] cut by rows: cut weights come to them, not they to it."""
    return nn.with_logical_constraint(x, ("batch", None, None))


def gelu(x: jax.Array) -> jax.Array:
    """Computes x Phi(x) of float [...], exactly.

    By erf, as BERT does: Flax takes erfc, of which XLA computes both branches for every element.

    Reference:
        Hendrycks and Gimpel (2016), "Gaussian Error Linear Units", Sec. 2.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def layer_norm(config: BodyConfig, name: str | None = None) -> nn.LayerNorm:
    """Returns layer norm over [..., D] with float32 statistics."""
    return nn.LayerNorm(
        epsilon=config.norm_epsilon,
        dtype=jnp.dtype(config.dtype),
        scale_init=partitioned(nn.initializers.ones_init(), ("embed",)),
        bias_init=partitioned(nn.initializers.zeros_init(), ("embed",)),
        name=name,
    )


def dense(
    features: int, config: BodyConfig, axes: tuple[str | None, str | None], name: str | None = None
) -> nn.Dense:
    """Returns a layer [..., D] to [..., features] in the compute dtype; axes name the kernel's."""
    return nn.Dense(
        features,
        dtype=jnp.dtype(config.dtype),
        kernel_init=partitioned(kernel_init, axes),
        bias_init=partitioned(nn.initializers.zeros_init(), axes[1:]),
        name=name,
    )
