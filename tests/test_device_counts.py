"""One device, eight devices and pmap train the real tasks to the same losses, dropout included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from example_records import make_item_table, make_records
from jax.sharding import AxisType

from recjax.data.loading import ClickTrainBatches, TrainBatches
from recjax.data.record_sources import ListSource
from recjax.models import EncoderConfig
from recjax.optim import OptimizerConfig, make_optimizer
from recjax.parallel import JitEngine, PmapEngine, make_engine, make_mesh
from recjax.step import create_state, make_train_step
from recjax.tasks import Click, MaskedItem, NextItem
from recjax.train import with_rows

TABLE = make_item_table()
ENCODER = EncoderConfig(
    vocab_size=TABLE.vocab_size,
    num_actions=5,
    num_gap_bins=8,
    num_categories=6,
    num_layers=1,
    hidden_dim=16,
    num_heads=2,
    mlp_dim=32,
    max_len=16,
    dropout_rate=0.3,
    attention_dropout_rate=0.3,
)
TASKS = {
    "masked_item": MaskedItem(ENCODER, mask_rate=0.3, loss_chunk=16),
    "next_item": NextItem(ENCODER, causal=True, loss_chunk=16),
    "click": Click(ENCODER, hidden_dims=(8,)),
}
OPTIMIZER = OptimizerConfig(
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="constant",
    warmup_steps=0,
    num_steps=20,
    weight_decay=0.01,
    clip_norm=1.0,
    beta2=0.98,
)


def batches_of(name):
    shape = {"batch_size": 8, "max_len": 16, "num_gap_bins": 8, "seeds": (0, 1)}
    kind = "click" if name == "click" else "sequences"
    sources = [[ListSource(make_records(kind, 60))]] * 2
    return iter((ClickTrainBatches if name == "click" else TrainBatches)(sources, **shape))


def losses_of(engine, name, num_steps=20):
    task, optimizer, seeds = TASKS[name], make_optimizer(OPTIMIZER), jnp.arange(2, dtype="uint32")
    init = jax.vmap(lambda seed: task.init(jax.random.key(seed), {}))
    create = engine.compile_once(lambda: create_state(init(seeds), seeds, optimizer=optimizer))
    state = create()
    step = engine.compile_step(make_train_step(task, optimizer, engine.axis_name))
    constants = engine.replicate({"item_category": TABLE.category_id})
    batches, losses = batches_of(name), []
    for _ in range(num_steps):
        batch = engine.put_member_batch(with_rows(next(batches)))
        state, metrics = step(state, batch, constants)
        losses.append(np.asarray(metrics["train/loss"]))
    return np.array(losses)


def one_device():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return JitEngine(mesh)


@pytest.mark.parametrize("name", TASKS)
def test_losses_agree_on_one_and_eight_devices_and_by_pmap(name):
    assert jax.device_count() == 8
    eight = losses_of(make_engine("jit", {"data": -1}), name)
    assert len(np.unique(eight)) > 20  # two members, twenty different steps
    np.testing.assert_allclose(eight, losses_of(one_device(), name), rtol=1e-5, atol=1e-5)
    pmapped = losses_of(PmapEngine(make_mesh({"data": -1})), name)
    np.testing.assert_allclose(eight, pmapped, rtol=1e-5, atol=1e-5)
