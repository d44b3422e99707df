"""The recurrent layer: a GRU over each segment, forward only.

Its state is all it keeps of the past, so that one more event costs the same whatever came before.
Called by `recjax.models.event_encoder`, `click_heads` and `sequence_gan`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import Block, by_rows, dense
from recjax.models.initialisers import partitioned
from recjax.models.relative import Relations


def run_gru(
    inputs: jax.Array,
    starts: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    strength: jax.Array | None = None,
) -> jax.Array:
    """Runs gated recurrent units over rows, from a state of zeros at every start.

    r = sigmoid(i_r + h W_r), z = sigmoid(i_z + h W_z), n = tanh(i_n + r * (h W_n + b)), and the
    next h is (1 - z) * n + z * h. The state is float32, products are in the dtype of `inputs`.

    Args:
        inputs: float [B, T, 3, D]: i_r, i_z and i_n.
        starts: bool [B, T], True at the first event of each segment.
        kernel: float [D, 3, D]: W_r, W_z and W_n.
        bias: float [D].
        strength: float [B, T], how much of its update an event may make: h moves by strength times
            (1 - z) (n - h). None for 1 everywhere.

    Returns:
        float32 [B, T, D], the state after each event.

    Reference:
        Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", Eq. 5 to 8,
        with the reset gate after the product, as in cuDNN; Zhou et al. (2019), "Deep Interest
        Evolution Network", Eq. 15 and 16, for the strength.
    """
    kernel = kernel.astype(inputs.dtype)

    def step(state: jax.Array, event: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        given, start, *steered = event
        state = jnp.where(start[:, None], 0, state)
        state = gru_step(state, given, kernel, bias, *steered)
        return state, state

    first = jnp.zeros((len(inputs), inputs.shape[-1]), jnp.float32)
    given = (inputs, starts) if strength is None else (inputs, starts, strength)
    by_time = tuple(jnp.swapaxes(array, 0, 1) for array in given)
    return jnp.swapaxes(jax.lax.scan(step, first, by_time)[1], 0, 1)


def gru_step(
    state: jax.Array,
    given: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    strength: jax.Array | None = None,
) -> jax.Array:
    """Returns the next state float32 [B, D]; see `run_gru`.

    Args:
        state: float32 [B, D].
        given: float [B, 3, D]: i_r, i_z and i_n.
        kernel: float [D, 3, D], in the dtype of the products.
        bias: float [D].
        strength: float [B], or None for 1.
    """
    product = jnp.einsum(
        "bd,dge->bge", state.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
    )
    reset, update = (jax.nn.sigmoid(given[:, gate] + product[:, gate]) for gate in (0, 1))
    if strength is not None:
        update = 1 - strength[:, None] * (1 - update)
    new = jnp.tanh(given[:, 2] + reset * (product[:, 2] + bias[None]))
    return (1 - update) * new + update * state


class GruBlock(Block):
    """One GRU with residual; `num_heads`, `mlp_dim` and attention's dropout have no part in it.

    Reference:
        Hidasi et al. (2016), "Session-based Recommendations with Recurrent Neural Networks"; norm
        and residual are those of the other encoders, not theirs.
    """

    bidirectional: ClassVar[bool] = False
    has_attention: ClassVar[bool] = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: int | jax.Array,
        relations: Relations,
        keys: jax.Array | None,
        causal: bool,
    ) -> tuple[jax.Array, None]:
        """Maps float [B, T, D] to float [B, T, D]; see `Block`. Causal in any case."""
        del causal  # the encoder refuses anything else
        site = self.first_site(layer)
        x = self.residual(
            x, "gru_norm", lambda y: self._recur(y, relations.segments), keys, site + 1
        )
        return by_rows(x), None

    def _recur(self, x: jax.Array, segments: jax.Array) -> jax.Array:
        config, width = self.config, self.config.hidden_dim
        gates = (*x.shape[:2], 3, width)
        inputs = dense(3 * width, config, ("embed", "mlp"), "input")(x).reshape(gates)
        # Every step needs the whole state: the recurrence is cut by rows of the batch only.
        inputs = nn.with_logical_constraint(inputs, ("batch", None, None, None))
        init = partitioned(orthogonal_gates, ("embed", None))
        kernel = self.param("recurrent_kernel", init, (width, 3 * width), jnp.float32)
        zeros = partitioned(nn.initializers.zeros_init(), ("embed",))
        bias = self.param("recurrent_bias", zeros, (width,), jnp.float32)
        starts = segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
        return run_gru(inputs, starts, kernel.reshape(width, 3, width), bias).astype(x.dtype)


def orthogonal_gates(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """Draws float [D, 3 D], an orthogonal matrix per gate: its products keep a state's length."""
    one = nn.initializers.orthogonal()
    keys = jax.random.split(key, shape[1] // shape[0])
    gates = jax.vmap(lambda k: one(k, (shape[0], shape[0]), dtype), out_axes=1)(keys)
    return gates.reshape(shape)
