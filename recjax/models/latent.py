"""A latent vector per user: its posterior given the user's events, and its way into a decoder.

Called by `recjax.tasks.sequence_vae`.
"""

from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import BodyConfig, dense, gelu


class Posterior(nn.Module):
    """q(z | events): a layer for each event, the mean over a user's events, a normal's parameters.

    Attributes:
        config: width and compute dtype.
        latent_dim: Z.

    Reference:
        Kingma and Welling (2014), "Auto-Encoding Variational Bayes", Sec. 3; Zaheer et al. (2017),
        "Deep Sets", Sec. 2.3, for the mean.
    """

    config: BodyConfig
    latent_dim: int

    @nn.compact
    def __call__(self, events: jax.Array, share: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes the posterior that every event's user has.

        Args:
            events: float [B, T, D], embedded.
            share: float32 [B, T, T], share of each event [b, :, s] in the mean of an event's user
                [b, t]; all 0 where there is no event.

        Returns:
            Mean and logarithm of the variance, float32 [B, T, Z] each, equal for all of a user.
        """
        config = self.config
        x = gelu(dense(config.hidden_dim, config, ("embed", "mlp"), "event")(events))
        x = jnp.einsum("bts,bsd->btd", share.astype(x.dtype), x)
        x = dense(2 * self.latent_dim, config, ("mlp", None), "normal")(x).astype(jnp.float32)
        mean, log_variance = jnp.split(x, 2, axis=-1)
        return mean, log_variance


class LatentInput(nn.Module):
    """Maps latent vectors float32 [B, T, Z] to what is added to a decoder's inputs [B, T, D].

    Attributes:
        config: width and compute dtype.
    """

    config: BodyConfig

    @nn.compact
    def __call__(self, latent: jax.Array) -> jax.Array:
        """Returns float [B, T, D]."""
        layer = dense(self.config.hidden_dim, self.config, (None, "embed"), "latent")
        return cast(jax.Array, layer(latent.astype(jnp.dtype(self.config.dtype))))
