"""The real tasks, tiny: encoder, batches and a few training steps on any engine."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from example_records import make_item_table, make_records
from jax.sharding import AxisType

from configs.default import get_config
from recjax.data.loading import ClickTrainBatches, TrainBatches, evaluation_batches
from recjax.data.record_sources import ListSource
from recjax.judging import Ranker
from recjax.losses import CatalogueLoss
from recjax.models import EncoderConfig
from recjax.objectives import OBJECTIVES, make_pretrain_task
from recjax.optim import OptimizerConfig, make_optimizer
from recjax.parallel import JitEngine
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
    vocab_multiple=8,
)


def everything(item_objective):
    """The default config with all objectives of behaviour that can go with an item objective."""
    config = get_config()
    config.pretrain.update(loss="sampled", num_negatives=8, negative_proposal="log_uniform")
    for name in OBJECTIVES:
        config.pretrain.objectives[name] = 0.5
    others = {"masked_item", "next_item"} - {item_objective}
    config.pretrain.objectives.update(dict.fromkeys(others, 0.0))
    return config


TASKS = {
    "masked_item": MaskedItem(ENCODER, mask_rate=0.3, item_loss=CatalogueLoss(loss_chunk=16)),
    "next_item": NextItem(ENCODER, causal=True, item_loss=CatalogueLoss(loss_chunk=16)),
    "click": Click(ENCODER, hidden_dims=(8,)),
    "mixture": make_pretrain_task(everything("masked_item"), ENCODER),
}
# other encoders than BERT, as next-item tasks
ENCODERS = {
    "hstu": {"encoder": "hstu", "relative_bias": ("position", "gap")},
    "gru": {"encoder": "gru"},
}
ENCODER_TASKS = {
    name: dataclasses.replace(TASKS["next_item"], encoder=dataclasses.replace(ENCODER, **changes))
    for name, changes in ENCODERS.items()
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


SHAPE = {"batch_size": 8, "max_len": 16, "num_gap_bins": 8}


def batches_of(name, rows=None):
    shape = {**SHAPE, "seeds": (0, 1), "rows": rows}
    kind = "click" if name == "click" else "sequences"
    sources = [[ListSource(make_records(kind, 60))]] * 2
    return iter((ClickTrainBatches if name == "click" else TrainBatches)(sources, **shape))


def train_steps(engine, name, num_steps, optimizer=OPTIMIZER, **settings):
    """Losses [num_steps, 2 members] and the last state."""
    task = (TASKS | ENCODER_TASKS)[name]
    optimizer, seeds = make_optimizer(optimizer), jnp.arange(2, dtype="uint32")
    init = jax.vmap(lambda seed: task.init(jax.random.key(seed), {}))
    logical = task.logical_axes()
    state = engine.compile_once(
        lambda: create_state(init(seeds), seeds, optimizer=optimizer), logical
    )()
    step = engine.compile_step(
        make_train_step(task, optimizer, engine.axis_name, **settings), logical
    )
    constants = engine.put_constants({"item_category": TABLE.category_id})
    batches, losses = batches_of(name, engine.local_rows(8)), []
    for _ in range(num_steps):
        batch = engine.put_member_batch(with_rows(next(batches)))
        state, metrics = step(state, batch, constants)
        losses.append(np.asarray(metrics["train/loss"]))
    return np.array(losses), state


def rank_next_items(engine, params, num_examples=21):
    """Ranks [2 members, N] and top items [2, N, 3]; 21 examples do not fill their batches."""
    constants = {"item_category": TABLE.category_id}
    ranker = Ranker(
        TASKS["next_item"], engine, constants, item_chunk=16, top_n=3, mask_history=True
    )
    source = ListSource(make_records("next_item", num_examples))
    ranked = ranker(params, evaluation_batches(source, rows=engine.local_rows(8), **SHAPE))
    return ranked.ranks, ranked.top_items


def one_device():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return JitEngine(mesh)
