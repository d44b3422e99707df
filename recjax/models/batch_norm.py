"""Batch norm whose running statistics are parameters, moved by a gradient of their own.

The train step knows parameters and gradients and no other state. So each layer gives a term of
value 0 whose gradient is (running - current), and `recjax.optim` moves parameters of this name a
tenth of the way: an exponential average, as in other frameworks, and the same on parts of a batch
and on several devices, whose gradients are averaged. Called by `recjax.models.ctr.layers`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

COLLECTION = "statistics"  # what the terms are sown into; their sum belongs into the loss
_EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Norms each entry over the batch in training, by running statistics else.

    Attributes:
        dtype: of the result; statistics are float32.

    Reference:
        Ioffe and Szegedy (2015), "Batch Normalization", Alg. 1.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Norms float [B, N]; `train` is static. Rows are taken to be real, none padding."""
        zeros, ones, size = nn.initializers.zeros_init(), nn.initializers.ones_init(), x.shape[-1:]
        mean = self.param("running_mean", zeros, size, jnp.float32)
        variance = self.param("running_variance", ones, size, jnp.float32)
        scale = self.param("scale", ones, size, jnp.float32)
        bias = self.param("bias", zeros, size, jnp.float32)
        x = x.astype(jnp.float32)
        if train:
            now = x.mean(axis=0), x.var(axis=0)
            unbiased = now[1] * (len(x) / max(1, len(x) - 1))
            self.sow(COLLECTION, "term", pull(mean, now[0]) + pull(variance, unbiased))
            mean, variance = now
        x = (x - mean[None]) * (scale * jax.lax.rsqrt(variance + _EPSILON))[None] + bias[None]
        return x.astype(self.dtype)


@jax.custom_vjp
def pull(running: jax.Array, current: jax.Array) -> jax.Array:
    """Returns 0, with the gradient running - current for `running` float32 [N].

    Example:
        >>> jax.grad(pull)(jnp.array([1.0]), jnp.array([3.0])).tolist()
        [-2.0]
    """
    del running, current
    return jnp.zeros((), jnp.float32)


def _pull_forward(running: jax.Array, current: jax.Array) -> tuple[jax.Array, jax.Array]:
    return pull(running, current), running - current


def _pull_backward(apart: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cotangent * apart, jnp.zeros_like(apart)


pull.defvjp(_pull_forward, _pull_backward)
