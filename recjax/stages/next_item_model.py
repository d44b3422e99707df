"""The neural models that strategies draw from: trained on real users, then handed over.

All seeds train together in expansion/generators/STRATEGY, with the checkpoints and the resume of
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
from recjax.objectives import GeneratorTask
from recjax.tasks import SequenceVae
from recjax.train import train

Tree = Any


def make_trainer(experiment: Experiment) -> Callable[[str, int], NextItemModel]:
    """Returns (strategy, seed) -> its model; a strategy's first call trains or takes up."""
    members: dict[str, dict[int, Tree]] = {}
    scores: dict[str, Callable[[Tree, dict[str, jax.Array]], jax.Array]] = {}

    def train_next_item(strategy: str, seed: int) -> NextItemModel:
        task, encoder = experiment.generator_task(strategy), experiment.encoder
        if strategy not in members:
            members[strategy] = _train_members(experiment, strategy)
            scores[strategy] = make_score(task)
        settings = experiment.context.config.expansion[strategy]
        return NextItemModel(
            score=scores[strategy],
            params=members[strategy][seed],
            num_rows=encoder.table_rows,
            num_gap_bins=encoder.num_gap_bins,
            max_len=encoder.max_len,
            temperature=settings.temperature,
            top_k=settings.top_k,
            latent_dim=task.latent_dim if isinstance(task, SequenceVae) else 0,
        )

    return train_next_item


def make_score(task: GeneratorTask) -> Callable[[Tree, dict[str, jax.Array]], jax.Array]:
    """Returns (params, batch) -> logits float32 [B, R] of the next item.

    Args:
        task: causal; its parameters are expected under "model", what it looks up under "constants".
    """

    def score(params: Tree, batch: dict[str, jax.Array]) -> jax.Array:
        table, bias = task.item_table(params["model"])
        query = task.queries(params["model"], batch, params["constants"])
        return query @ table.T + bias[None]

    return score


def _train_members(experiment: Experiment, strategy: str) -> dict[int, Tree]:
    """Returns seed -> what its score reads, on one device."""
    if distributed.count() > 1:
        raise UserError(
            f"the strategy {strategy!r} trains in one process, here are {distributed.count()}; "
            "run --stages expand alone on one host, then the rest"
        )
    context = experiment.context
    train(experiment.generator_training(strategy), context.engine, context.progress)
    members = jax.tree.map(np.asarray, experiment.generator_params(strategy))
    constants = {"item_category": jnp.asarray(experiment.constants["item_category"])}
    return {
        seed: {
            "model": jax.tree.map(lambda leaf, m=place: jnp.asarray(leaf[m]), members),
            "constants": constants,
        }
        for place, seed in enumerate(context.seeds)
    }
