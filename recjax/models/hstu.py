"""HSTU's layer: attention without softmax, gated; no feed-forward part.

A pair of events weighs silu(q k + bias), whatever the other pairs weigh, so that how often
something happened is not normalised away. Called by `recjax.models.event_encoder`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.attention import visible
from recjax.models.blocks import Block, by_rows, dense, layer_norm
from recjax.models.dropout import dropout
from recjax.models.initialisers import kernel_init, partitioned
from recjax.models.relative import Relations, RelativeBias


def attend_pointwise(
    query: jax.Array, key: jax.Array, bias: jax.Array | None, mask: jax.Array, scale: float
) -> jax.Array:
    """Returns the weights float32 [B, H, T, T] of every pair, scale * silu(q k + bias) or 0.

    Args:
        query: float [B, T, H, D]; key likewise.
        key: float [B, T, H, D].
        bias: float32 [B or 1, H, T, T], or None for none.
        mask: bool [B, T, T], False where the weight is 0.
        scale: factor (static). It must not depend on the length of the row, or padding would count.

    Reference:
        Zhai et al. (2024), "Actions Speak Louder than Words: Trillion-Parameter Sequential
        Transducers for Generative Recommendations", Eq. 2.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    return jnp.where(mask[:, None], jax.nn.silu(scores) * scale, 0)


class HstuBlock(Block):
    """One layer of HSTU with residual; `mlp_dim` has no part in it.

    With f1, f2 dense: U, V, Q, K = silu(f1(x)); y = f2(norm(weights V) * U). Scores are not divided
    by sqrt(D); weights are, by max_len, as in the authors' code. `attention_dropout_rate` drops
    weights.

    Reference:
        Zhai et al. (2024), Eq. 1 to 3; the bias is their rab^{p,t} where `relative_bias` names both
        measures.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: int | jax.Array,
        relations: Relations,
        keys: jax.Array | None,
        causal: bool,
    ) -> tuple[jax.Array, None]:
        """Maps float [B, T, D] to float [B, T, D]; see `Block`."""
        site = self.first_site(layer)
        x = self.residual(
            x, "hstu_norm", lambda y: self._mix(y, relations, causal, keys, site), keys, site + 1
        )
        return by_rows(x), None

    def _mix(
        self,
        x: jax.Array,
        relations: Relations,
        causal: bool,
        keys: jax.Array | None,
        site: int | jax.Array,
    ) -> jax.Array:
        config = self.config
        gate, value, query, key = self._project(x)
        bias = RelativeBias(config.num_heads, name="relative_bias")(relations.buckets)
        mask = visible(relations.segments, causal)
        weights = attend_pointwise(query, key, bias, mask, 1 / config.max_len)
        weights = weights.astype(value.dtype)
        weights = dropout(weights, config.attention_dropout_rate, keys, site=site)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        mixed = layer_norm(config, "mixed_norm")(mixed) * gate.reshape(x.shape)
        return dense(config.hidden_dim, config, ("heads", "embed"), "output")(mixed)

    def _project(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Returns U, V, Q and K, float [B, T, H, D / H] each."""
        config = self.config
        projected = nn.DenseGeneral(
            (4, config.num_heads, config.hidden_dim // config.num_heads),
            dtype=jnp.dtype(config.dtype),
            kernel_init=partitioned(kernel_init, ("embed", None, "heads", "kv")),
            bias_init=partitioned(nn.initializers.zeros_init(), (None, "heads", "kv")),
            name="gate_value_query_key",
        )(x)
        return tuple(jax.nn.silu(projected[:, :, part]) for part in range(4))
