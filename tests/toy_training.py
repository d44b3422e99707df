"""A toy task and loader for tests of step, engines and loop: noisy linear regression."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recjax.optim import OptimizerConfig, make_optimizer
from recjax.parallel import make_engine
from recjax.step import create_state, make_train_step
from recjax.train import LoopConfig, Training

OPTIMIZER = OptimizerConfig(
    optimizer="adamw",
    learning_rate=0.3,
    schedule="cosine",
    warmup_steps=2,
    num_steps=40,
    weight_decay=0.01,
    clip_norm=1.0,
    beta2=0.99,
)

ENGINE = make_engine("jit", {"data": -1})


class ToyTask:
    """Squared error with noise drawn per row key, as dropout would be."""

    name = "toy"

    def init(self, key, batch):
        return {"kernel": jax.random.normal(key, (batch["x"].shape[-1],))}

    def loss(self, params, batch, constants, *, keys, train):
        noise = jax.vmap(jax.random.normal)(keys) if train else 0.0
        error = jnp.sum(batch["x"] * params["kernel"][None], axis=-1) - batch["y"] + 0.1 * noise
        return {"loss": (jnp.sum(batch["weight"] * error**2), jnp.sum(batch["weight"]))}


class ToyBatches:
    """Batches [M, B, 3] that are a pure function of a pointer."""

    def __init__(self, members=2, size=16):
        self.members, self.size, self.pointer = members, size, 0

    def __next__(self):
        rng = np.random.default_rng([5, self.pointer])
        self.pointer += 1
        x = rng.normal(size=(self.members, self.size, 3)).astype(np.float32)
        weight = rng.uniform(size=x.shape[:2]).astype(np.float32)
        return {"x": x, "y": x @ np.array([1.0, -2.0, 0.5], np.float32), "weight": weight}

    def get_state(self):
        return {"pointer": self.pointer}

    def set_state(self, state):
        self.pointer = state["pointer"]


def make_training(
    folder,
    *,
    num_steps=40,
    batches=None,
    evaluate=None,
    patience=0,
    keep_last=2,
    keep_best=0,
    ema_decay=0.0,
    engine=ENGINE,
    traces=None,
):
    """A Training of the toy task; by default the metric is minus the distance to the truth.

    `traces` gets the batch shapes of every trace of the step.
    """
    optimizer = make_optimizer(OPTIMIZER)
    step = make_train_step(ToyTask(), optimizer, engine.axis_name, ema_decay=ema_decay)

    def traced(state, batch, constants):
        if traces is not None:
            traces.append({name: leaf.shape for name, leaf in batch.items()})
        return step(state, batch, constants)

    truth = np.array([1.0, -2.0, 0.5])
    return Training(
        label="toy",
        folder=folder,
        step=engine.compile_step(traced),
        create=engine.compile_once(
            partial(create_state, optimizer=optimizer, averages=ema_decay > 0)
        ),
        init_params=engine.compile_once(
            jax.vmap(lambda seed: ToyTask().init(jax.random.key(seed), {"x": jnp.zeros((1, 3))}))
        ),
        start=lambda fresh: fresh,
        batches=batches or ToyBatches(),
        constants={},
        evaluate=evaluate
        or (lambda params: -np.abs(np.asarray(params["kernel"]) - truth).sum(axis=-1)),
        flops=lambda batch: 0.0,
        metric_name="closeness",
        seeds=(3, 4),
        loop=LoopConfig(
            num_steps=num_steps,
            eval_interval_steps=10,
            early_stop_evals=patience,
            checkpoint_interval_steps=7,
            log_interval_steps=5,
            keep_last=keep_last,
            keep_best=keep_best,
            tensorboard=False,
            wandb_project="",
            profile_start_step=10,
            profile_num_steps=0,
        ),
    )
