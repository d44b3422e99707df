"""EulerNet: orders of crosses learned in polar form. Called by `recjax.models.ctr.model`."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.classic import Head
from recjax.models.ctr.layers import dense, flatten, layer_norm, to_logit
from recjax.models.initialisers import kernel_init, partitioned

_EPSILON = 1e-8
Complex = tuple[jax.Array, jax.Array]  # real and imaginary part


class EulerNet(Head):
    """Fields as complex numbers, whose powers and products are sums in polar form.

    A field's vector is the phase, a learned number per field the modulus. A layer has an explicit
    part, exp(sum_f a_fk log l_f + b) at the phase sum_f a_fk t_f + c with learned real orders a,
    and an implicit one, a dense layer over real and imaginary parts alike; both are added.

    Reference:
        Tian et al. (2023), "EulerNet: Adaptive Feature Interaction Learning via Euler's Formula".
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]; polar form is computed in float32."""
        del linear, keys
        config, phase = self.config, fields.astype(jnp.float32)
        modulus = self.param("modulus", nn.initializers.ones_init(), (1, config.num_fields, 1))
        x = (modulus * jnp.cos(phase), modulus * jnp.sin(phase))
        for index in range(config.num_cross_layers):
            x = self._layer(x, index)
        parts = [to_logit(config, flatten(p), f"logit_{n}") for n, p in enumerate(x)]
        return (parts[0] + parts[1])[:, None]

    def _layer(self, x: Complex, index: int) -> Complex:
        """Maps parts float32 [B, F, D] to [B, K, D]."""
        crossed, mixed = self._explicit(x, index), self._implicit(x, index)
        norm = layer_norm(self.config, f"norm_{index}")
        real, imaginary = (
            norm(c + m.reshape(c.shape)).astype(jnp.float32)
            for c, m in zip(crossed, mixed, strict=True)
        )
        return real, imaginary

    def _explicit(self, x: Complex, index: int) -> Complex:
        real, imaginary = x
        shape = (real.shape[1], self.config.num_orders)
        init = partitioned(kernel_init, (None, None))
        orders = self.param(f"orders_{index}_kernel", init, shape, jnp.float32)
        log_modulus = 0.5 * jnp.log(real**2 + imaginary**2 + _EPSILON)
        phase = jnp.arctan2(imaginary, real + _EPSILON)
        bias = (1, self.config.num_orders, self.config.embedding_dim)
        zeros = nn.initializers.zeros_init()
        log_modulus = jnp.einsum("bfd,fk->bkd", log_modulus, orders)
        phase = jnp.einsum("bfd,fk->bkd", phase, orders)
        modulus = jnp.exp(log_modulus + self.param(f"orders_{index}_log_modulus", zeros, bias))
        phase = phase + self.param(f"orders_{index}_phase", zeros, bias)
        return modulus * jnp.cos(phase), modulus * jnp.sin(phase)

    def _implicit(self, x: Complex, index: int) -> Complex:
        width = self.config.num_orders * self.config.embedding_dim
        layer = dense(self.config, width, f"implicit_{index}")
        real, imaginary = (nn.relu(layer(flatten(part))).astype(jnp.float32) for part in x)
        return real, imaginary
