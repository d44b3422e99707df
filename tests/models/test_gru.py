"""The recurrent layer against Flax's own GRU cell, stepped one event at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from recjax.models.gru import orthogonal_gates, run_gru

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
WIDTH = 4


def test_states_equal_those_of_flax_and_start_anew_with_each_segment():
    rng = np.random.default_rng(0)
    x, kernel, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, 6, WIDTH), (2, WIDTH, 3, WIDTH), (2, 3, WIDTH))
    )
    names = ("r", "z", "n")
    params = {f"i{n}": {"kernel": kernel[0, :, i], "bias": bias[0, i]} for i, n in enumerate(names)}
    params |= {f"h{n}": {"kernel": kernel[1, :, i]} for i, n in enumerate(names)}
    params["hn"]["bias"] = bias[1, 2]
    inputs = jnp.einsum("btd,dge->btge", x, kernel[0]) + bias[0][None, None]
    starts = np.diff(SEGMENTS, prepend=0) != 0
    found = run_gru(inputs, jnp.asarray(starts), kernel[1], bias[1, 2])
    state = jnp.zeros((2, WIDTH))
    for at in range(6):
        state = jnp.where(starts[:, at, None], 0, state)
        state, _ = nn.GRUCell(WIDTH).apply({"params": params}, state, x[:, at])
        np.testing.assert_allclose(found[:, at], state, atol=1e-5)


def test_recurrent_matrices_keep_lengths_at_first():
    kernel = orthogonal_gates(jax.random.key(0), (8, 24), jnp.float32).reshape(8, 3, 8)
    for gate in range(3):
        np.testing.assert_allclose(kernel[:, gate] @ kernel[:, gate].T, np.eye(8), atol=1e-5)
