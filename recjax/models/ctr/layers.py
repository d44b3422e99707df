"""What the heads are made of: fields out of one table, dense layers, the deep tower.

Called by the heads of this folder.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.batch_norm import BatchNorm
from recjax.models.ctr.settings import CtrConfig
from recjax.models.dropout import dropout
from recjax.models.embeddings import Table
from recjax.models.initialisers import kernel_init, partitioned

_SITES_PER_TOWER = 64  # dropout sites of a tower's layers


class Fields(nn.Module):
    """A vector for each field: the sum of the rows in its slots, each times its value.

    A category has one slot of value 1, a number one row times its value, n values of a
    multi-valued field have 1 / n each, so that their mean is taken; empty slots have value 0.

    Attributes:
        config: rows and slots.
        dim: width D of a row; 1 makes the weights of a linear model.
    """

    config: CtrConfig
    dim: int

    @nn.compact
    def __call__(self, ids: jax.Array, values: jax.Array | None) -> jax.Array:
        """Looks up ids int32 [B, S] with values float32 [B, S], None for ones -> [B, F, D]."""
        rows = Table(self.config.num_rows, self.dim, ("vocab", "embed"), name="rows")(ids)
        if values is not None:
            rows = rows * values[..., None]
        if set(self.config.slots) == {1}:
            return rows
        parts, start = [], 0
        for count in self.config.slots:
            parts.append(rows[:, start : start + count].sum(axis=1))
            start += count
        return jnp.stack(parts, axis=1)


class Tower(nn.Module):
    """Dense layers, each with norm, ReLU and dropout.

    Attributes:
        config: norm, dropout and dtype.
        hidden_dims: widths.
        number: of the tower within its head; towers share no dropout masks.
    """

    config: CtrConfig
    hidden_dims: tuple[int, ...]
    number: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps float [B, N] to float [B, last width].

        Args:
            x: the input.
            keys: typed PRNG keys [B] for dropout in training, None outside of it.
        """
        for index, width in enumerate(self.hidden_dims):
            x = dense(self.config, width, f"dense_{index}")(x)
            x = nn.relu(norm(self.config, x, f"norm_{index}", train=keys is not None))
            site = self.number * _SITES_PER_TOWER + index
            x = dropout(x, self.config.dropout_rate, keys, site=site)
        return x


def dense(config: CtrConfig, width: int, name: str, use_bias: bool = True) -> nn.Dense:
    """Returns a dense layer in the head's compute dtype."""
    return nn.Dense(
        width,
        use_bias=use_bias,
        dtype=jnp.dtype(config.dtype),
        kernel_init=partitioned(kernel_init, (None, None)),
        name=name,
    )


def norm(config: CtrConfig, x: jax.Array, name: str, *, train: bool) -> jax.Array:
    """Norms float [B, N] as the settings say; called within a module. `train` is static."""
    if config.norm == "none":
        return x
    if config.norm == "batch":
        return BatchNorm(jnp.dtype(config.dtype), name=name)(x, train)
    return layer_norm(config, name)(x)


def layer_norm(config: CtrConfig, name: str) -> nn.LayerNorm:
    """Returns a layer norm over the last axis in the head's compute dtype."""
    return nn.LayerNorm(dtype=jnp.dtype(config.dtype), name=name)


def to_logit(config: CtrConfig, x: jax.Array, name: str = "logit") -> jax.Array:
    """Maps float [B, N] to float32 [B] by a dense layer; called within a module."""
    return dense(config, 1, name)(x)[:, 0].astype(jnp.float32)


def flatten(fields: jax.Array) -> jax.Array:
    """Lays fields float [B, F, D] beside each other, float [B, F D]."""
    return fields.reshape(len(fields), -1)
