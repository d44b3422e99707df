"""Heads on rows train alike on one device and on eight; their table is really cut."""

import jax
import numpy as np
import pytest
from tiny_training import OPTIMIZER, one_device

from recjax.models.ctr import HEADS, CtrConfig
from recjax.optim import make_optimizer
from recjax.parallel import make_engine
from recjax.step import create_state, make_train_step
from recjax.tasks import RowClick

MEMBERS, SIZE, ROWS = 2, 16, 24
MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def task_of(head, norm):
    return RowClick(
        CtrConfig(
            head=head, num_rows=ROWS, slots=(1, 2), embedding_dim=4, hidden_dims=(8, 8), norm=norm,
            dropout_rate=0.2, num_cross_layers=2, num_orders=3, attention_dim=3, cross_dims=(4,),
        )
    )  # fmt: skip


def run(engine, task, num_steps=3):
    """Losses float [steps, members] and the last state."""
    optimizer, seeds = make_optimizer(OPTIMIZER), np.arange(MEMBERS, dtype=np.uint32)
    init = jax.vmap(lambda seed: task.init(jax.random.key(seed), {}))
    logical = task.logical_axes()
    create = engine.compile_once(
        lambda: create_state(init(seeds), seeds, optimizer=optimizer), logical
    )
    state, losses = create(), []
    step = engine.compile_step(make_train_step(task, optimizer, engine.axis_name), logical)
    for number in range(num_steps):
        numbers = np.random.default_rng(number)
        batch = {
            "ids": numbers.integers(ROWS, size=(MEMBERS, SIZE, 3), dtype=np.int32),
            "values": numbers.random((MEMBERS, SIZE, 3), np.float32),
            "label": numbers.integers(2, size=(MEMBERS, SIZE)).astype(np.float32),
            "weight": np.ones((MEMBERS, SIZE), np.float32),
            "row": np.tile(np.arange(SIZE, dtype=np.int32), (MEMBERS, 1)),
        }
        state, metrics = step(state, engine.put_member_batch(batch), {})
        losses.append(np.asarray(metrics["train/loss"]))
    return np.array(losses), state


@pytest.mark.parametrize(
    "head",  # the quick suite takes the one that compiles fastest
    ["fm", *(pytest.param(head, marks=pytest.mark.slow) for head in HEADS if head != "fm")],
)
def test_losses_agree_with_one_device_and_the_table_is_cut(head):
    task = task_of(head, "batch")
    losses, state = run(make_engine("jit", MESH), task)
    alone, _ = run(one_device(), task)
    np.testing.assert_allclose(losses, alone, rtol=1e-5, atol=1e-5)
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.params)[0]:
        if jax.tree_util.keystr(path).endswith("['table']"):
            assert leaf.addressable_shards[0].data.shape[1] == ROWS // 4


@pytest.mark.slow
def test_pmap_agrees_without_batch_norm():
    """With it, each device of this engine norms by its own rows."""
    task = task_of("dcnv2", "layer")
    losses, _ = run(make_engine("pmap", {"data": 8}), task)
    np.testing.assert_allclose(losses, run(one_device(), task)[0], rtol=1e-5, atol=1e-5)
