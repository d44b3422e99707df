"""A small encoder, packed batches and the constants that the tasks take."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models import EncoderConfig
from recjax.tasks import MaskedItem, NextItem

VOCAB_SIZE = 30


@pytest.fixture
def encoder_config():
    return EncoderConfig(
        vocab_size=VOCAB_SIZE,
        num_actions=4,
        num_gap_bins=6,
        num_categories=5,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        mlp_dim=32,
        max_len=12,
        dropout_rate=0.3,
        attention_dropout_rate=0.3,
    )


@pytest.fixture
def constants():
    categories = np.arange(VOCAB_SIZE) % 4 + 1
    categories[:5] = 0
    return {"item_category": jnp.asarray(categories, jnp.int32)}


@functools.cache
def _compiled_init(task):
    return jax.jit(task.init)


@pytest.fixture
def init():
    def make(task, seed=0):
        """Fresh parameters; tasks on items have the same, so one program makes them all."""
        if isinstance(task, MaskedItem | NextItem):
            task = NextItem(task.encoder)
        return _compiled_init(task)(jax.random.key(seed))

    return make


@pytest.fixture
def make_batch():
    def make(lengths, length=12, seed=0):
        """Packs users of the given lengths: one list of lengths per row."""
        rng = np.random.default_rng(seed)
        shape = (len(lengths), length)
        segments, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for row, users in enumerate(lengths):
            numbers = np.repeat(np.arange(1, len(users) + 1), users)
            segments[row, : len(numbers)] = numbers
            positions[row, : len(numbers)] = np.concatenate([np.arange(n) for n in (0, *users)])
        real = segments > 0
        draws = {"items": (5, VOCAB_SIZE), "actions": (0, 4), "gaps": (0, 6)}
        batch = {
            name: np.where(real, rng.integers(*span, shape), 0).astype(np.int32)
            for name, span in draws.items()
        }
        weights = np.where(real, rng.uniform(0.5, 2, shape), 0).astype(np.float32)
        batch |= {"segments": segments, "positions": positions, "weights": weights}
        return {name: jnp.asarray(value) for name, value in batch.items()}

    return make
