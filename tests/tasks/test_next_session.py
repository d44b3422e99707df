import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.tasks import NextSession
from recjax.tasks.sequences import pool

LENGTHS = [[5, 4, 3], [12], [1, 1, 2], [6, 2]]


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_second_half_is_the_own_one_or_the_end_of_another_user(encoder_config, make_batch):
    task, batch = NextSession(encoder_config), make_batch(LENGTHS * 50)
    spliced, foreign, may = map(jax.tree.map, [np.asarray] * 3, task.splice(batch, _keys(200)))
    items, segments = np.asarray(batch["items"]), np.asarray(batch["segments"])
    longest = [(0, 5), (0, 12), (2, 4), (0, 6)]  # begin and end of each row's longest sequence
    counts = np.zeros(2)
    for row in range(200):
        begin, end = longest[(row + 1) % 4]
        other = items[(row + 1) % 200, begin:end]
        for number in range(1, segments[row].max() + 1):
            at = np.flatnonzero(segments[row] == number)
            half = len(at) // 2
            assert may[row, at].all() == may[row, at].any() == (0 < half <= len(other))
            np.testing.assert_array_equal(
                spliced["items"][row, at[: len(at) - half]], items[row, at[: len(at) - half]]
            )
            second, own = (
                spliced["items"][row, at[len(at) - half :]],
                items[row, at[len(at) - half :]],
            )
            is_foreign = foreign[row, at].any()
            if not is_foreign:
                np.testing.assert_array_equal(second, own)
            else:
                np.testing.assert_array_equal(second, other[len(other) - half :])
                assert not np.array_equal(second, own)
            if may[row, at].all():
                counts[int(is_foreign)] += 1
    assert counts[1] / counts.sum() == pytest.approx(0.5, abs=0.08)
    for name in ("positions", "segments"):
        np.testing.assert_array_equal(spliced[name], batch[name])


def test_equal_halves_are_not_called_foreign(encoder_config, make_batch):
    batch = make_batch([[6]] * 4)
    batch["items"] = jnp.full_like(batch["items"], 7)
    assert not NextSession(encoder_config).splice(batch, _keys(4))[1].any()


def test_share_counts(encoder_config, make_batch):
    batch = make_batch([[12]] * 400)
    foreign = NextSession(encoder_config, foreign_share=0.2).splice(batch, _keys(400))[1]
    assert foreign.any(axis=1).mean() == pytest.approx(0.2, abs=0.06)
    with pytest.raises(ValueError, match="foreign_share"):
        NextSession(encoder_config, foreign_share=1.0)


@pytest.mark.parametrize("causal", [True, False])
def test_loss_equals_the_dense_form(encoder_config, make_batch, constants, causal):
    task, batch = NextSession(encoder_config, causal=causal), make_batch(LENGTHS)
    params, keys = jax.jit(task.init)(jax.random.key(0)), _keys(4)

    @jax.jit
    def run(params, batch):
        spliced, foreign, _ = task.splice(batch, keys)
        hidden = task.encode(params, spliced, constants, causal=causal)
        numbers = jnp.broadcast_to(jnp.arange(4)[None], (4, 4))
        vectors = pool(hidden, batch["segments"], numbers, causal=causal)
        return task.loss(params, batch, constants, keys=keys, train=False), vectors, foreign

    out, vectors, foreign = run(params, batch)
    # of [5, 4, 3], [12], [1, 1, 2], [6, 2]: those whose half fits into the next row's longest
    ends = {(0, 1): 4, (0, 2): 8, (0, 3): 11, (2, 3): 3, (3, 1): 5, (3, 2): 7}
    kernel, bias = (params["head"]["dense"][name] for name in ("kernel", "bias"))
    total = weight = 0.0
    for (row, number), last in ends.items():
        logit = vectors[row, number] @ kernel[:, 0] + bias[0]
        label = foreign[row][batch["segments"][row] == number].any()
        loss = optax.sigmoid_binary_cross_entropy(logit, label.astype(jnp.float32))
        total += float(loss * batch["weights"][row, last])
        weight += float(batch["weights"][row, last])
    np.testing.assert_allclose(out[task.name], (total, weight), rtol=1e-5)
