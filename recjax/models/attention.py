"""Attention through one function, whatever kernel computes it.

`attend` is the XLA path and the door to the fused kernels. `SelfAttention` adds the projections.
Called by `recjax.models.blocks`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.adapters import Prefix
from recjax.models.attention_kernels import attend_cudnn, attend_splash
from recjax.models.dropout import dropout
from recjax.models.initialisers import kernel_init, partitioned
from recjax.models.relative import Relations, RelativeBias

_NEGATIVE = -1e30


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array,
    *,
    causal: bool,
    kernel: str = "xla",
    bias: jax.Array | None = None,
    dropout_rate: float = 0.0,
    keys: jax.Array | None = None,
    site: int | jax.Array = 0,
) -> jax.Array:
    """Scaled dot-product attention inside segments; softmax in float32.

    A position sees the positions of its own segment, up to itself when causal. Padding (segment 0)
    sees padding only, so that no row of the softmax is empty and nothing leaks from it.

    Args:
        query: float [B, T, H, D]; key and value likewise.
        key: float [B, T, H, D].
        value: float [B, T, H, D].
        segments: int32 [B, T]; 0 is padding, equal numbers belong together.
        causal: whether a position is kept from seeing later ones (static).
        kernel: "xla", or a fused one, which takes neither bias nor dropout (static); see
            `recjax.models.attention_kernels.choose_kernel`.
        bias: float32 [B or 1, H, T, T], added to the scores; None for none.
        dropout_rate: share of attention weights dropped (static).
        keys: typed PRNG keys [B], or None for no dropout.
        site: dropout's call site; scalar.

    Returns:
        float [B, T, H, D] in value's dtype.

    Reference:
        Vaswani et al. (2017), "Attention Is All You Need", Eq. 1.
    """
    if kernel != "xla":
        fused = {"cudnn": attend_cudnn, "splash": attend_splash}[kernel]
        return fused(query, key, value, segments, causal=causal)
    scale = jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key, preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    mask = visible(segments, causal)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, _NEGATIVE), axis=-1)
    weights = dropout(weights.astype(value.dtype), dropout_rate, keys, site=site)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def visible(segments: jax.Array, causal: bool) -> jax.Array:
    """Returns bool [B, T, T], which positions (last axis) a position sees.

    Args:
        segments: int32 [B, T]; 0 is padding, equal numbers belong together.
        causal: whether a position is kept from seeing later ones (static).
    """
    mask = segments[:, :, None] == segments[:, None, :]
    if causal:
        steps = jnp.arange(segments.shape[1])
        mask &= (steps[:, None] >= steps[None, :])[None]
    return mask


class SelfAttention(nn.Module):
    """Multi-head self-attention with one product for query, key and value.

    Attributes:
        num_heads: heads H; must divide the width of the input.
        dropout_rate: on the attention weights.
        dtype: compute dtype; parameters are float32.
        kernel: what computes it, see `attend`.
        prefix_len: learned positions that are looked at too; 0 = none.
    """

    num_heads: int
    dropout_rate: float
    dtype: jnp.dtype
    kernel: str
    prefix_len: int = 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        relations: Relations,
        causal: bool,
        keys: jax.Array | None,
        site: int | jax.Array,
    ) -> jax.Array:
        """Maps float [B, T, D] to float [B, T, D]; see `attend` for the other arguments."""
        width = x.shape[-1]
        head_dim = width // self.num_heads
        projected = nn.DenseGeneral(
            (3, self.num_heads, head_dim),
            dtype=self.dtype,
            kernel_init=partitioned(kernel_init, ("embed", None, "heads", "kv")),
            bias_init=partitioned(nn.initializers.zeros_init(), (None, "heads", "kv")),
            name="query_key_value",
        )(x)
        query, key, value = (projected[:, :, part] for part in range(3))
        mixed = attend(
            query,
            key,
            value,
            relations.segments,
            causal=causal,
            kernel=self.kernel,
            bias=RelativeBias(self.num_heads, name="relative_bias")(relations.buckets),
            dropout_rate=self.dropout_rate,
            keys=keys,
            site=site,
        )
        if self.prefix_len:
            mixed = mixed + Prefix(self.prefix_len, self.dtype, name="prefix")(query)
        return nn.DenseGeneral(
            width,
            axis=(-2, -1),
            dtype=self.dtype,
            kernel_init=partitioned(kernel_init, ("heads", "kv", "embed")),
            bias_init=partitioned(nn.initializers.zeros_init(), ("embed",)),
            name="output",
        )(mixed)
