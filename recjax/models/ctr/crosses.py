"""Heads with explicit crosses: DCN, DCNv2, GDCN, xDeepFM; all beside a deep part.

Called by `recjax.models.ctr.model`; the shapes are in `recjax.models.ctr.classic`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.classic import Head, deep_logit, linear_logit
from recjax.models.ctr.layers import Tower, dense, flatten, to_logit
from recjax.models.initialisers import kernel_init, partitioned


class CrossHead(Head):
    """Cross layers and a tower side by side; one dense layer over both."""

    def cross(self, x0: jax.Array, x: jax.Array, index: int) -> jax.Array:
        """Returns the next x float [B, N] of a cross layer, before its own x is added."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del linear
        config, x0 = self.config, flatten(fields)
        x = x0
        for index in range(config.num_cross_layers):
            x = self.cross(x0, x, index) + x
        deep = Tower(config, config.hidden_dims, name="deep")(x0, keys)
        return to_logit(config, jnp.concatenate([x, deep], axis=1))[:, None]


class CrossNetwork(CrossHead):
    """DCN: x' = x0 (w . x) + b + x.

    Reference:
        Wang et al. (2017), "Deep & Cross Network for Ad Click Predictions", Eq. 3.
    """

    def cross(self, x0: jax.Array, x: jax.Array, index: int) -> jax.Array:
        """Returns x0 (w . x) + b, float [B, N]."""
        zeros = nn.initializers.zeros_init()
        bias = self.param(f"cross_{index}_bias", zeros, (x.shape[1],), jnp.float32)
        scale = dense(self.config, 1, f"cross_{index}", use_bias=False)(x)
        return x0 * scale + bias[None].astype(x.dtype)


class CrossNetworkV2(CrossHead):
    """DCNv2, in parallel: x' = x0 * (W x + b) + x.

    Reference:
        Wang et al. (2021), "DCN V2", Eq. 1.
    """

    def cross(self, x0: jax.Array, x: jax.Array, index: int) -> jax.Array:
        """Returns x0 * (W x + b), float [B, N]."""
        return x0 * dense(self.config, x.shape[1], f"cross_{index}")(x)


class GatedCrossNetwork(CrossHead):
    """GDCN, in parallel: x' = x0 * (W x + b) * sigmoid(G x) + x; the gate picks crosses.

    Reference:
        Wang et al. (2023), "Towards Deeper, Lighter and Interpretable Cross Network for CTR
        Prediction".
    """

    def cross(self, x0: jax.Array, x: jax.Array, index: int) -> jax.Array:
        """Returns x0 * (W x + b) * sigmoid(G x), float [B, N]."""
        width = x.shape[1]
        gate = nn.sigmoid(dense(self.config, width, f"gate_{index}", use_bias=False)(x))
        return x0 * dense(self.config, width, f"cross_{index}")(x) * gate


class CompressedInteraction(Head):
    """xDeepFM: linear terms, a compressed interaction network (CIN) and a tower, added.

    Layer k of the CIN has maps x^k_h = sum_ij W_hij (x^(k-1)_i * x^0_j), [D] each; their sums over
    D, of all layers, give the logit.

    Reference:
        Lian et al. (2018), "xDeepFM", Eq. 6 to 9, without activation, as its authors found best.
    """

    uses_linear: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        config = self.config
        init = partitioned(_pair_init, (None, None, None))
        maps, sums = fields, []
        for index, width in enumerate(config.cross_dims):
            shape = (width, maps.shape[1], fields.shape[1])
            kernel = self.param(f"cin_{index}_kernel", init, shape, jnp.float32)
            pairs = maps[:, :, None] * fields[:, None]  # [B, I, J, D]
            maps = jnp.einsum("hij,bijd->bhd", kernel.astype(fields.dtype), pairs)
            sums.append(maps.sum(axis=2))
        crosses = to_logit(config, jnp.concatenate(sums, axis=1), "cin_logit")
        return (linear_logit(self, linear) + crosses + deep_logit(config, fields, keys))[:, None]


def _pair_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Fan-in of a map: all pairs [I, J]."""
    return kernel_init(key, (shape[1] * shape[2], shape[0]), dtype).T.reshape(shape)
