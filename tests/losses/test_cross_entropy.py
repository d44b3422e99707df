import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from recjax.losses import chunked_cross_entropy
from recjax.losses.tiles import over_tokens
from recjax.parallel.rules import flax_rules

NUM_ROWS, NUM_ITEMS, WIDTH = 16, 43, 8


def _inputs(seed=0, num_items=NUM_ITEMS, num_rows=NUM_ROWS):
    keys = jax.random.split(jax.random.key(seed), 5)
    hidden = jax.random.normal(keys[0], (num_rows, WIDTH))
    table = jax.random.normal(keys[1], (num_items, WIDTH))
    bias = jax.random.normal(keys[2], (num_items,))
    targets = jax.random.randint(keys[3], (num_rows,), 5, num_items)
    targets = targets.at[0].set(num_items - 1).at[1].set(5)
    return hidden, table, bias, targets, jax.random.uniform(keys[4], (num_rows,))


def _dense(hidden, table, bias, targets, weights):
    logits = hidden @ table[5:].T + (0 if bias is None else bias[None, 5:])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets - 5)
    return (losses * weights).sum()


def _chunked(chunk):
    return lambda *inputs: chunked_cross_entropy(*inputs, chunk=chunk)[0]


def _value_and_gradients(loss, inputs):
    hidden, table, bias, targets, weights = inputs
    fn = jax.value_and_grad(lambda h, t, b, w: 1.7 * loss(h, t, b, targets, w), (0, 1, 2, 3))
    return jax.jit(fn)(hidden, table, bias, weights)


@pytest.mark.parametrize("chunk", [3, 10, 22, 43, 1000])
def test_values_and_gradients_equal_the_dense_form(chunk):
    expected = _value_and_gradients(_dense, _inputs())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        _value_and_gradients(_chunked(chunk), _inputs()),
        expected,
    )


def test_without_bias_equals_the_dense_form():
    hidden, table, _, targets, weights = _inputs()
    out = chunked_cross_entropy(hidden, table, None, targets, weights, chunk=7)
    expected = _dense(hidden, table, None, targets, weights)
    np.testing.assert_allclose(out[0], expected, rtol=1e-5)
    np.testing.assert_allclose(out[1], weights.sum(), rtol=1e-6)


def test_specials_take_no_part_and_special_targets_weigh_nothing():
    hidden, table, bias, targets, weights = _inputs()
    targets = targets.at[2].set(0).at[3].set(4)
    loud = table.at[:5].set(1e3)
    out = chunked_cross_entropy(hidden, loud, bias, targets, weights, chunk=7)
    silent = weights.at[2].set(0).at[3].set(0)
    expected = _dense(hidden, table, bias, jnp.maximum(targets, 5), silent)
    np.testing.assert_allclose(out[0], expected, rtol=1e-5)
    np.testing.assert_allclose(out[1], silent.sum(), rtol=1e-6)
    gradient = jax.grad(_chunked(7), 1)(hidden, loud, bias, targets, weights)
    assert np.abs(gradient[:5]).max() == 0


def test_huge_logits_and_all_padding_stay_finite():
    hidden, table, bias, targets, weights = _inputs()
    for scale, weight in ((1e4, weights), (1.0, weights * 0)):
        out = _value_and_gradients(_chunked(7), (hidden * scale, table, bias, targets, weight))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert out[0] == 0


def test_bfloat16_hidden_is_close_and_gradients_keep_their_dtypes():
    hidden, table, bias, targets, weights = _inputs()
    low = (hidden.astype(jnp.bfloat16), table, bias, targets, weights)
    value, gradients = _value_and_gradients(_chunked(7), low)
    exact, _ = _value_and_gradients(_dense, _inputs())
    assert [g.dtype for g in gradients] == [jnp.bfloat16] + [jnp.float32] * 3
    assert abs(value / exact - 1) < 0.01


def test_tokens_without_weight_change_nothing_wherever_they_stand():
    hidden, table, bias, targets, _ = _inputs(num_rows=40)

    def gradients(loss):
        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))

    chunked, dense = gradients(_chunked(32)), gradients(_dense)
    for used in (0, 1, 7, 8, 40):
        weights = np.zeros(40, np.float32)
        weights[np.random.default_rng(0).permutation(40)[:used]] = 1.5
        found = chunked(hidden, table, bias, targets, weights)
        loud = jnp.where(weights[:, None] > 0, hidden, 1e3)
        other = chunked(loud, table, bias, jnp.where(weights > 0, targets, 3), weights)
        jax.tree.map(np.testing.assert_array_equal, found, other)
        expected = dense(hidden, table, bias, targets, weights)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


def test_blocks_visit_the_tokens_with_weight_only_and_members_share_one_loop():
    weights = jnp.zeros((2, 100)).at[0, 10::10].set(1.0).at[1, 3].set(1.0)

    def visited(weights):
        def add(carry, rows):
            return carry[0].at[rows].add(1, mode="drop"), carry[1] + 1

        empty = jnp.zeros(100, jnp.int32), jnp.int32(0)
        return over_tokens(add, empty, weights, 4)

    visits, blocks = jax.jit(jax.vmap(visited))(weights)
    assert blocks.tolist() == [3, 3]  # 9 tokens, 4 at a time; the second member waits
    assert (visits[0, 10::10] == 1).all() and visits[1, 3] == 1
    assert visits.max() == 1 and (visits.sum(axis=1) == 12).all()
    assert visited(weights[1])[1] == 1


def test_members_under_vmap_equal_one_by_one():
    inputs = [_inputs(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs)

    def gradients(*inputs):
        return jax.value_and_grad(_chunked(10), (0, 1, 2))(*inputs)

    together = jax.jit(jax.vmap(gradients))(*stacked)
    alone = [jax.jit(gradients)(*single) for single in inputs]
    jax.tree.map(
        lambda whole, *parts: np.testing.assert_allclose(whole, np.stack(parts), atol=1e-5),
        together,
        *alone,
    )


def test_rows_sharded_over_eight_devices_give_the_same_without_gathering_them():
    inputs = _inputs(num_rows=512)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    placed = [jax.device_put(value, rows if len(value) == 512 else whole) for value in inputs]
    gradients = jax.value_and_grad(_chunked(10), (0, 1, 2))
    with jax.set_mesh(mesh), nn.logical_axis_rules(flax_rules(mesh)):
        compiled = jax.jit(gradients).lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    sharded, single = compiled(*placed), jax.jit(gradients)(*inputs)
    assert sharded[1][0].sharding.is_equivalent_to(rows, 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), sharded, single
    )


def test_memory_does_not_grow_with_the_catalogue():
    def temporary_bytes(num_items):
        inputs = _inputs(num_items=num_items, num_rows=256)
        step = jax.jit(jax.value_and_grad(_chunked(512), (0, 1, 2)))
        memory = step.lower(*inputs).compile().memory_analysis()
        return memory.temp_size_in_bytes

    tables = 8192 * (WIDTH + 1) * 4  # the gradients of table and bias may be built in temporaries
    assert temporary_bytes(8192) < temporary_bytes(1024) + 1.5 * tables
    assert temporary_bytes(8192) < 256 * 8192 * 4 / 2  # half of one dense array of logits


@pytest.mark.parametrize(
    ("change", "message"),
    [({"chunk": 0}, "chunk"), ({"width": 3}, "hidden"), ({"rows": 5}, "specials")],
)
def test_wrong_arguments_are_named(change, message):
    hidden, table, bias, targets, weights = _inputs()
    table = table[: change.get("rows", NUM_ITEMS), : change.get("width", WIDTH)]
    with pytest.raises(ValueError, match=message):
        chunked_cross_entropy(hidden, table, bias, targets, weights, chunk=change.get("chunk", 7))
