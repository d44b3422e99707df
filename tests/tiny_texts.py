"""Items with titles in which each word tells the other, and histories that walk along the items."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recjax.models import EncoderConfig, TextConfig

NUM_ITEMS, NUM_TOKENS, TITLE_LEN = 25, 60, 6
CLS, SEP, MASK = 2, 3, 4
ENCODER = EncoderConfig(
    vocab_size=5 + NUM_ITEMS,
    num_actions=4,
    num_gap_bins=6,
    num_categories=5,
    num_layers=1,
    hidden_dim=16,
    num_heads=2,
    mlp_dim=32,
    max_len=8,
    dropout_rate=0.1,
    attention_dropout_rate=0.1,
    vocab_multiple=8,
)
TEXT = TextConfig(
    vocab_size=NUM_TOKENS,
    num_layers=1,
    hidden_dim=24,
    num_heads=2,
    mlp_dim=32,
    max_len=TITLE_LEN,
    dropout_rate=0.1,
    attention_dropout_rate=0.1,
)


def make_constants():
    """Title of item i: a word of two pieces, a word of one piece; both name i."""
    number = np.arange(NUM_ITEMS)
    tokens = np.zeros((ENCODER.table_rows, TITLE_LEN), np.int32)
    title = [0 * number + CLS, 5 + number, 40 + number % 20, 5 + number * 7 % 25, 0 * number + SEP]
    tokens[5 : 5 + NUM_ITEMS, :5] = np.stack(title, axis=1)
    kind = np.repeat([0, 1, 2], [5, 35, 20])
    return {
        "item_tokens": jnp.asarray(tokens),
        "token_kind": jnp.asarray(kind, jnp.int32),
        "item_category": jnp.zeros(ENCODER.table_rows, jnp.int32),
    }


def make_batch(seed=0, rows=8, length=8):
    """Each user starts anywhere and always goes to the next item."""
    rng = np.random.default_rng(seed)
    steps = np.arange(length)
    items = 5 + (rng.integers(0, NUM_ITEMS, (rows, 1)) + steps) % NUM_ITEMS
    batch = {
        "items": items,
        "actions": rng.integers(0, 4, (rows, length)),
        "gaps": rng.integers(0, 6, (rows, length)),
        "positions": np.broadcast_to(steps, (rows, length)),
        "segments": np.ones((rows, length)),
    }
    batch = {name: jnp.asarray(value, jnp.int32) for name, value in batch.items()}
    return batch | {"weights": jnp.ones((rows, length))}


def keys_of(rows=8, seed=0):
    return jax.random.split(jax.random.key(seed), rows)


@functools.cache
def init(task):
    return jax.jit(task.init)(jax.random.key(0))


@functools.cache
def _compiled(task):
    return jax.jit(lambda *inputs: task.loss(*inputs[:3], keys=inputs[3], train=False))


def losses_of(task, params=None, keys=None, **changes):
    """The losses of one batch without dropout; changes to batch or constants by name."""
    params = init(task) if params is None else params
    batch, constants = make_batch(), make_constants()
    batch |= {name: value for name, value in changes.items() if name in batch}
    constants |= {name: value for name, value in changes.items() if name not in batch}
    keys = keys_of() if keys is None else keys
    found = _compiled(task)(params, batch, constants, keys)
    return {name: (float(total), float(weight)) for name, (total, weight) in found.items()}


def fit(task, num_steps, learning_rate=5e-3):
    """Trains on fresh batches; returns the parameters and the mean losses of the last 20 steps."""
    constants, optimizer = make_constants(), optax.adam(learning_rate)

    def total(params, batch, keys):
        sums = task.loss(params, batch, constants, keys=keys, train=True)
        means = {name: value / jnp.maximum(weight, 1e-9) for name, (value, weight) in sums.items()}
        return sum(means.values()), means

    @jax.jit
    def step(params, state, batch, keys):
        gradient, means = jax.grad(total, has_aux=True)(params, batch, keys)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, means

    params = init(task)
    state, history = optimizer.init(params), []
    for number in range(num_steps):
        params, state, means = step(params, state, make_batch(number), keys_of(seed=number))
        history.append(means)
    return params, {
        name: float(np.mean([means[name] for means in history[-20:]])) for name in history[0]
    }
