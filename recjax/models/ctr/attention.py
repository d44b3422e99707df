"""AutoInt: self-attention between fields. Called by `recjax.models.ctr.model`."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.classic import Head, deep_logit
from recjax.models.ctr.layers import dense, flatten, to_logit


class AutoInt(Head):
    """Layers of self-attention between fields, and a tower, added (AutoInt+).

    Reference:
        Song et al. (2019), "AutoInt", Eq. 5 to 9, and Sec. 5.5 for the tower.
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del linear
        x = fields
        for index in range(self.config.num_cross_layers):
            x = self._attend(x, index)
        attended = to_logit(self.config, flatten(x), "attention_logit")
        return (attended + deep_logit(self.config, fields, keys))[:, None]

    def _attend(self, x: jax.Array, index: int) -> jax.Array:
        """Maps float [B, F, N] to float [B, F, H A]."""
        config = self.config
        width = config.num_heads * config.attention_dim

        def part(name: str) -> jax.Array:
            out = dense(config, width, f"{name}_{index}", use_bias=False)(x)
            return out.reshape(*x.shape[:2], config.num_heads, config.attention_dim)

        scores = jnp.einsum("bfha,bgha->bhfg", part("query"), part("key"))
        weights = nn.softmax(scores.astype(jnp.float32), axis=-1).astype(scores.dtype)
        mixed = jnp.einsum("bhfg,bgha->bfha", weights, part("value"))
        residual = dense(config, width, f"residual_{index}", use_bias=False)(x)
        return nn.relu(mixed.reshape(residual.shape) + residual)
