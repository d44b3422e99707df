"""Row-wise optimizers against loops in numpy; idle rows against their own bits."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.optim.rows import add_row_l2, scale_by_row_adagrad, scale_by_row_adam

ROWS, DIM, STEPS = 6, 3, 5


def gradients():
    """[steps, V, D]; row 0 never has a gradient, row 1 only in the last step."""
    grads = np.random.default_rng(1).normal(size=(STEPS, ROWS, DIM)).astype(np.float32)
    grads[:, 0] = 0
    grads[:-1, 1] = 0
    return grads


def run(transformation):
    params = {"table": jnp.ones((ROWS, DIM))}
    state, outs = transformation.init(params), []
    update = jax.jit(transformation.update)
    for grads in gradients():
        out, state = update({"table": jnp.asarray(grads)}, state, params)
        outs.append(np.asarray(out["table"]))
    return np.array(outs), state


def test_row_adagrad_keeps_one_sum_per_row():
    outs, state = run(scale_by_row_adagrad(epsilon=0.01))
    sums = np.zeros(ROWS)
    for out, grads in zip(outs, gradients(), strict=True):
        for row in range(ROWS):
            sums[row] += np.mean(grads[row] ** 2)
            np.testing.assert_allclose(
                out[row], grads[row] / (np.sqrt(sums[row]) + 0.01), rtol=1e-5
            )
    assert state.squares["table"].shape == (ROWS,)
    np.testing.assert_allclose(state.squares["table"], sums, rtol=1e-5)


def test_row_adam_updates_rows_that_have_a_gradient():
    outs, state = run(scale_by_row_adam(0.8, 0.9, epsilon=0.01))
    first, second, count = np.zeros((ROWS, DIM)), np.zeros(ROWS), np.zeros(ROWS)
    for out, grads in zip(outs, gradients(), strict=True):
        for row in range(ROWS):
            expected = np.zeros(DIM)
            if np.any(grads[row]):
                count[row] += 1
                first[row] = 0.8 * first[row] + 0.2 * grads[row]
                second[row] = 0.9 * second[row] + 0.1 * np.mean(grads[row] ** 2)
                root = np.sqrt(second[row] / (1 - 0.9 ** count[row])) + 0.01
                expected = first[row] / (1 - 0.8 ** count[row]) / root
            np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(state.count["table"], count)
    assert state.second["table"].shape == (ROWS,)


def test_idle_rows_keep_their_bits_and_moments():
    for transformation in (scale_by_row_adagrad(), scale_by_row_adam()):
        params = {"table": jnp.ones((ROWS, DIM))}
        _, state = transformation.update(
            {"table": jnp.ones((ROWS, DIM))}, transformation.init(params)
        )
        idle = jnp.ones((ROWS, DIM)).at[2].set(0.0)
        out, after = transformation.update({"table": idle}, state)
        assert not np.any(out["table"][2]) and np.all(out["table"][3] != 0)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            assert np.asarray(old[2]).tobytes() == np.asarray(new[2]).tobytes()
            assert np.all(old[3] != new[3])


def test_row_l2_pulls_rows_with_a_gradient_only():
    params = {"table": jnp.full((ROWS, DIM), 2.0)}
    grads = {"table": jnp.zeros((ROWS, DIM)).at[1, 0].set(1.0)}
    out, _ = add_row_l2(0.5).update(grads, None, params)
    expected = np.zeros((ROWS, DIM))
    expected[1] = [2, 1, 1]
    np.testing.assert_array_equal(out["table"], expected)
