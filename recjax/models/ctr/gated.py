"""Heads that gate and mask: FinalMLP, FinalNet, MaskNet. Called by `recjax.models.ctr.model`."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.classic import Head
from recjax.models.ctr.layers import Tower, dense, flatten, layer_norm, norm, to_logit
from recjax.models.ctr.settings import CtrConfig
from recjax.models.dropout import dropout
from recjax.models.initialisers import kernel_init, partitioned

_SITES_PER_BLOCK = 64


class FinalMlp(Head):
    """Two towers, each over fields gated in its own way, fused by a bilinear form per head.

    A gate is made from a learned vector: one importance per entry, the same in every row.

    Reference:
        Mao et al. (2023), "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction".
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del linear
        config, x = self.config, flatten(fields)
        streams = []
        for number in range(2):
            gated = x * self._gate(number, x.shape[1])
            tower = Tower(config, config.hidden_dims, number, name=f"stream_{number}")
            streams.append(tower(gated, keys))
        return self._fuse(*streams)[:, None]

    def _gate(self, number: int, width: int) -> jax.Array:
        """Returns gates float [1, N] in (0, 2)."""
        config = self.config
        init = nn.initializers.normal(0.02)
        context = self.param(f"context_{number}", init, (1, config.embedding_dim), jnp.float32)
        hidden = nn.relu(dense(config, mask_width(config, width), f"gate_{number}_in")(context))
        return 2 * nn.sigmoid(dense(config, width, f"gate_{number}_out")(hidden))

    def _fuse(self, one: jax.Array, two: jax.Array) -> jax.Array:
        """Returns b + w1 . one + w2 . two + sum over heads of one^T W3 two, float32 [B]."""
        config = self.config
        size = one.shape[1] // config.num_heads
        heads = [part.reshape(-1, config.num_heads, size) for part in (one, two)]
        init = partitioned(_head_init, (None, None, None))
        shape = (config.num_heads, size, size)
        kernel = self.param("bilinear_kernel", init, shape, jnp.float32).astype(one.dtype)
        crossed = jnp.einsum("bhi,hij->bhj", heads[0], kernel)
        products = (crossed * heads[1]).astype(jnp.float32).sum(axis=(1, 2))
        return products + to_logit(config, jnp.concatenate([one, two], axis=1))


class FinalNet(Head):
    """Fields gated by each other, then two stacks of factorized interaction layers.

    Each stack gives a logit of its own; training teaches both with their mean (see
    `recjax.tasks.row_click`). A layer is a dense layer twice as wide, h1 + h1 * h2 of its halves.

    Reference:
        Zhu et al. (2023), "FINAL: Factorized Interaction Layer for CTR Prediction".
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 2]."""
        del linear
        config = self.config
        across = dense(config, config.num_fields, "field_gate")(fields.swapaxes(1, 2))
        gated = fields * across.swapaxes(1, 2)
        x = flatten(jnp.concatenate([fields, gated], axis=1))
        return jnp.stack([self._stack(x, keys, number) for number in range(2)], axis=1)

    def _stack(self, x: jax.Array, keys: jax.Array | None, number: int) -> jax.Array:
        config = self.config
        for index, width in enumerate(config.hidden_dims):
            one, two = jnp.split(dense(config, 2 * width, f"block_{number}_{index}")(x), 2, axis=1)
            x = norm(
                config, one + one * two, f"block_{number}_{index}_norm", train=keys is not None
            )
            x = nn.relu(x)
            site = number * _SITES_PER_BLOCK + index
            x = dropout(x, config.dropout_rate, keys, site=site)
        return to_logit(config, x, f"block_{number}_logit")


class MaskNet(Head):
    """Blocks side by side, each a masked view of the normed fields; a tower over all of them.

    The mask of a block is made from the fields themselves: V = W2 relu(W1 x + b1) + b2, and the
    block is relu(norm(W (V * norm(x)))).

    Reference:
        Wang, She and Zhang (2021), "MaskNet", the parallel form.
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del linear
        config, x = self.config, flatten(fields)
        normed = flatten(layer_norm(config, "field_norm")(fields))
        blocks = [self._block(x, normed, index) for index in range(config.num_cross_layers)]
        tower = Tower(config, config.hidden_dims, name="deep")
        return to_logit(config, tower(jnp.concatenate(blocks, axis=1), keys))[:, None]

    def _block(self, x: jax.Array, normed: jax.Array, index: int) -> jax.Array:
        config, width = self.config, x.shape[1]
        hidden = nn.relu(dense(config, mask_width(config, width), f"mask_{index}_in")(x))
        mask = dense(config, width, f"mask_{index}_out")(hidden)
        out = dense(config, config.block_dim, f"block_{index}", use_bias=False)(mask * normed)
        return nn.relu(layer_norm(config, f"block_{index}_norm")(out))


def mask_width(config: CtrConfig, width: int) -> int:
    """Returns the hidden width of what makes a mask or a gate of a width."""
    return max(1, round(config.mask_factor * width))


def _head_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Fan-in of one head."""
    return jax.vmap(lambda k: kernel_init(k, shape[1:], dtype))(jax.random.split(key, shape[0]))
