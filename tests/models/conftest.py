"""A small encoder and a way to lay users out in rows, packed or one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models import EncoderConfig


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
