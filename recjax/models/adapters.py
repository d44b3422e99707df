"""Small modules for parameter-efficient tuning; at their first values they change nothing.

They are parts of a block only where `BodyConfig` says so. Which parameters then train is decided in
`recjax.tasks.adaptation`. Called by `recjax.models.blocks` and `recjax.models.attention`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.initialisers import kernel_init, partitioned


class Adapter(nn.Module):
    """A bottleneck with a residual around it, behind a part of a block; its way up starts at zero.

    Attributes:
        dim: width of the bottleneck.
        dtype: compute dtype; parameters are float32.

    Reference:
        Houlsby et al. (2019), "Parameter-Efficient Transfer Learning for NLP", Sec. 2.1.
    """

    dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float [B, T, D] to float [B, T, D]."""
        down = nn.Dense(
            self.dim,
            dtype=self.dtype,
            kernel_init=partitioned(kernel_init, ("embed", None)),
            name="down",
        )
        up = nn.Dense(
            x.shape[-1],
            dtype=self.dtype,
            kernel_init=partitioned(nn.initializers.zeros_init(), (None, "embed")),
            name="up",
        )
        return x + up(nn.gelu(down(x), approximate=False))


class Prefix(nn.Module):
    """Attention to learned keys and values, added to a head's own by a gate that starts at zero.

    The learned positions have a softmax of their own, so that the attention to events stays as it
    was and any kernel can compute it.

    Attributes:
        length: learned positions P.
        dtype: compute dtype; parameters are float32.

    Reference:
        Li & Liang (2021), "Prefix-Tuning"; the gate of Zhang et al. (2023), "LLaMA-Adapter", Eq. 6.
    """

    length: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, query: jax.Array) -> jax.Array:
        """Attends from float [B, T, H, D] to the prefix -> float [B, T, H, D]."""
        heads, width = query.shape[2:]
        shape, names = (self.length, heads, width), (None, "heads", "kv")
        init = partitioned(nn.initializers.normal(width**-0.5), names)
        key = self.param("key", init, shape, jnp.float32).astype(self.dtype)
        value = self.param("value", init, shape, jnp.float32).astype(self.dtype)
        zeros = partitioned(nn.initializers.zeros_init(), ("heads",))
        gate = jnp.tanh(self.param("gate", zeros, (heads,), jnp.float32)).astype(self.dtype)
        scale = jnp.asarray(width**-0.5, query.dtype)
        scores = jnp.einsum(
            "bqhd,phd->bhqp", query * scale, key, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        return jnp.einsum("bhqp,phd->bqhd", weights, value) * gate[:, None][None, None]
