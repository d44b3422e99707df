"""The two players of a sequence GAN: a recurrent generator of items and a recurrent critic.

Both read items alone, by embeddings of their own. A generated item is a hard choice on the way
forward and a softmax on the way back, so that the critic's opinion reaches the generator's odds.
The game is `recjax.tasks.sequence_gan`'s.

Reference:
    Kusner and Hernandez-Lobato (2016), "GANs for sequences of discrete elements with the
    Gumbel-softmax distribution"; Jang, Gu and Poole (2017), "Categorical reparameterization with
    Gumbel-softmax", Sec. 2.2 (straight through).
"""

from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.gru import gru_step, orthogonal_gates, run_gru
from recjax.models.initialisers import kernel_init, partitioned, table_init


class ItemReader(nn.Module):
    """An item table and a GRU over embedded items, a state of zeros at each user's first event.

    Attributes:
        num_rows: R of the table.
        dim: D.
    """

    num_rows: int
    dim: int

    def setup(self) -> None:
        """Declares the parameters."""
        width, zeros = self.dim, nn.initializers.zeros_init()
        gates = (width, 3 * width)
        self.table = self.param(
            "table", partitioned(table_init, ("vocab", "embed")), (self.num_rows, width)
        )
        self.input = self.param("input", partitioned(kernel_init, ("embed", None)), gates)
        self.recurrent = self.param(
            "recurrent", partitioned(orthogonal_gates, ("embed", None)), gates, jnp.float32
        )
        self.gate_bias = self.param("gate_bias", partitioned(zeros, (None,)), (3 * width,))
        self.bias = self.param("bias", partitioned(zeros, ("embed",)), (width,))

    def embed(self, items: jax.Array) -> jax.Array:
        """Returns float32 [B, T, D] of items int32 [B, T]."""
        return jnp.take(self.table, items, axis=0, mode="clip")

    def read(self, x: jax.Array, starts: jax.Array) -> jax.Array:
        """Returns the state float32 [B, T, D] after each embedded event float32 [B, T, D]."""
        gates = x @ self.input + self.gate_bias[None, None]
        gates = gates.reshape(*x.shape[:2], 3, self.dim)
        return run_gru(gates, starts, self._recurrent_kernel(), self.bias)

    def step(self, state: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the state float32 [B, D] after one more embedded event float32 [B, D]."""
        gates = (x @ self.input + self.gate_bias[None]).reshape(len(x), 3, self.dim)
        return gru_step(state, gates, self._recurrent_kernel(), self.bias)

    def _recurrent_kernel(self) -> jax.Array:
        return cast(jax.Array, self.recurrent).reshape(self.dim, 3, self.dim)


class Critic(nn.Module):
    """Says of every event how real the user looks up to it.

    Attributes:
        num_rows: R of its item table.
        dim: D.
    """

    num_rows: int
    dim: int

    def setup(self) -> None:
        """Declares reader and output."""
        self.reader = ItemReader(self.num_rows, self.dim)
        init = partitioned(kernel_init, ("embed", None))
        self.output = nn.Dense(1, kernel_init=init)

    def __call__(self, x: jax.Array, starts: jax.Array) -> jax.Array:
        """Returns log-odds float32 [B, T] that events so far are real.

        Args:
            x: float32 [B, T, D], embedded by the critic's own table.
            starts: bool [B, T], each user's first event.
        """
        return cast(jax.Array, self.output(self.reader.read(x, starts))[..., 0])

    def embed(self, items: jax.Array) -> jax.Array:
        """Returns float32 [B, T, D] of items int32 [B, T]."""
        return self.reader.embed(items)
