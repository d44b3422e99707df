import jax
import jax.numpy as jnp
import pytest
from tiny_training import ENCODER, TABLE, TASKS, batches_of

from recjax.flops import forward_flops, training_flops
from recjax.recipe import count_step_flops
from recjax.train import with_rows

A = jax.ShapeDtypeStruct((4, 3), jnp.float32)
B = jax.ShapeDtypeStruct((3, 5), jnp.float32)
PRODUCT = 2 * 4 * 3 * 5


def scanned(a, b):
    return jax.lax.scan(lambda total, _: (total + a @ b, None), jnp.zeros((4, 5)), length=7)[0]


def looped(a, b):
    return jax.lax.fori_loop(0, 7, lambda _, total: total + a @ b, jnp.zeros((4, 5)))


def looped_as_often_as_weights_say(a, b, weights):
    times = (weights != 0).sum()
    loop = jax.jit(
        lambda a: jax.lax.fori_loop(0, times, lambda _, total: total + a @ b, jnp.zeros((4, 5)))
    )
    return loop(a)


def branched(a, b):
    return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b + a @ b)


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda a, b: a @ b, 1),
        (lambda a, b: jnp.einsum("ij,jk->ki", a, b) + 1, 1),
        (jax.jit(lambda a, b: a @ b), 1),
        (jax.checkpoint(lambda a, b: a @ b), 1),
        (lambda a, b: jax.vmap(lambda row: row @ b)(a), 1),
        (scanned, 7),
        (looped, 7),
        (branched, 2),
        (lambda a, b: a[:, 0] + b[0, 0], 0),
    ],
)
def test_products_are_counted_as_often_as_they_run(function, products):
    assert forward_flops(function, A, B) == products * PRODUCT


def test_loop_counts_as_often_as_the_arguments_say():
    weights = jnp.array([1.0, 0.0, 0.5, 2.0])
    unknown = jax.ShapeDtypeStruct(weights.shape, weights.dtype)
    assert forward_flops(looped_as_often_as_weights_say, A, B, weights) == 3 * PRODUCT
    assert forward_flops(looped_as_often_as_weights_say, A, B, unknown) == PRODUCT


def test_backward_counts_twice_the_forward():
    assert training_flops(lambda a, b: (a @ b).sum(), A, B) == 3 * PRODUCT


def test_step_of_the_encoder_has_the_products_of_the_textbook():
    """Per event: attention 4 D^2, the wide layer 2 D F, scores 2 T D; per target V D."""
    batch = with_rows(next(batches_of("next_item")))
    segments = batch["segments"]
    members, rows, events = segments.shape
    width, wide = ENCODER.hidden_dim, ENCODER.mlp_dim
    per_event = 4 * width**2 + 2 * width * wide + 2 * events * width
    targets = (segments[0, :, 1:] > 0) & (segments[0, :, 1:] == segments[0, :, :-1])
    assert 0 < targets.sum() < 0.9 * targets.size
    softmax = targets.sum() * ENCODER.table_rows * width
    expected = 3 * 2 * members * (rows * events * per_event + softmax)
    found = count_step_flops(TASKS["next_item"], batch, {"item_category": TABLE.category_id})
    assert expected <= found < 1.15 * expected
