"""Small encoders, random parameters, and users laid out in rows, packed or one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models import EncoderConfig, TextConfig, init_text_bert
from recjax.models.text_bert import HEADS


@pytest.fixture
def make_config():
    def make(**changes):
        sizes = dict(vocab_size=30, num_actions=4, num_gap_bins=6, num_categories=5)
        model = dict(num_layers=1, hidden_dim=16, num_heads=2, mlp_dim=32, max_len=12)
        return EncoderConfig(**(sizes | model | changes))

    return make


@pytest.fixture
def lay_out():
    def lay(rows, length):
        """Rows of users, each user a list of item ids; the other inputs follow from the items."""
        batch = {
            name: np.zeros((len(rows), length), np.int32)
            for name in ("items", "actions", "gaps", "positions", "segments")
        }
        for row, users in enumerate(rows):
            start = 0
            for number, items in enumerate(users):
                at = (row, slice(start, start + len(items)))
                items = np.asarray(items, np.int32)
                batch["items"][at] = items
                batch["actions"][at] = items % 4
                batch["gaps"][at] = items % 6
                batch["positions"][at] = np.arange(len(items))
                batch["segments"][at] = number + 1
                start += len(items)
        return {name: jnp.asarray(value) for name, value in batch.items()}

    return lay


@pytest.fixture
def text_config():
    return TextConfig(
        vocab_size=24, num_layers=2, hidden_dim=8, num_heads=2, mlp_dim=12, max_len=10
    )


@pytest.fixture
def random_params():
    def make(config, heads=HEADS):
        """Parameters of a text BERT, every number of them random, made without compiling."""
        boxed = jax.eval_shape(lambda: init_text_bert(config, jax.random.key(0), heads))
        rng = np.random.default_rng(0)
        return jax.tree.map(
            lambda leaf: rng.normal(0, 0.4, leaf.shape).astype(np.float32), nn.meta.unbox(boxed)
        )

    return make
