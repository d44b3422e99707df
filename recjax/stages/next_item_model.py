"""The model that the strategy `transformer` draws from: trained on real users, then handed over.

All seeds train together in expansion/generators/transformer, with the checkpoints and the resume of
any training; validation users decide which step is kept. Called by the expand stage.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax import distributed
from recjax.errors import UserError
from recjax.expansion import NextItemModel
from recjax.experiment import Experiment
from recjax.tasks import NextItem
from recjax.train import train

Tree = Any


def make_trainer(experiment: Experiment) -> Callable[[int], NextItemModel]:
    """Returns seed -> its model; the first call trains, or takes up what was trained before."""
    settings = experiment.context.config.expansion.transformer
    score = make_score(experiment.generator_task())
    members: dict[int, Tree] = {}

    def train_next_item(seed: int) -> NextItemModel:
        if not members:
            members.update(_train_members(experiment))
        encoder = experiment.encoder
        return NextItemModel(
            score=score,
            params=members[seed],
            num_rows=encoder.table_rows,
            num_gap_bins=encoder.num_gap_bins,
            max_len=encoder.max_len,
            temperature=settings.temperature,
            top_k=settings.top_k,
        )

    return train_next_item


def make_score(task: NextItem) -> Callable[[Tree, dict[str, jax.Array]], jax.Array]:
    """Returns (params, batch) -> logits float32 [B, R] of the next item.

    Args:
        task: causal; its parameters are expected under "model", what it looks up under "constants".
    """

    def score(params: Tree, batch: dict[str, jax.Array]) -> jax.Array:
        table, bias = task.item_table(params["model"])
        query = task.queries(params["model"], batch, params["constants"])
        return query @ table.T + bias[None]

    return score


def _train_members(experiment: Experiment) -> dict[int, Tree]:
    """Returns seed -> what its score reads, on one device."""
    if distributed.count() > 1:
        raise UserError(
            f"the strategy 'transformer' trains in one process, here are {distributed.count()}; "
            "run --stages expand alone on one host, then the rest"
        )
    context = experiment.context
    train(experiment.generator_training(), context.engine, context.progress)
    members = jax.tree.map(np.asarray, experiment.generator_params())
    constants = {"item_category": jnp.asarray(experiment.constants["item_category"])}
    return {
        seed: {
            "model": jax.tree.map(lambda leaf, m=place: jnp.asarray(leaf[m]), members),
            "constants": constants,
        }
        for place, seed in enumerate(context.seeds)
    }
