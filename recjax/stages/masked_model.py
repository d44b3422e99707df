"""The model that the strategy `masked_fill` draws from: another run's pretrained checkpoint.

That run has its own work directory and the same prepared log; so nothing here is a loop, and what
the checkpoint has seen is what this run may see. Called by the expand stage.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax import distributed
from recjax.errors import UserError
from recjax.expansion import MaskedModel
from recjax.experiment import Experiment
from recjax.tasks import Mixture
from recjax.tasks.positions import hide, take

Tree = Any
KEY = "config.expansion.masked_fill"


def make_loader(experiment: Experiment) -> Callable[[int], MaskedModel]:
    """Returns seed -> the model that the same seed of the first run trained."""
    loaded: list[tuple[Experiment, Callable, Tree]] = []

    def load_masked(seed: int) -> MaskedModel:
        if not loaded:
            first = open_first_run(experiment)
            arm = experiment.context.config.expansion.masked_fill.arm
            members = jax.tree.map(np.asarray, first.pretrain_params(arm))
            loaded.append((first, make_score(first.pretrain_task()), members))
        first, score, members = loaded[0]
        return _make_model(experiment, first, score, members, seed)

    return load_masked


def open_first_run(experiment: Experiment) -> Experiment:
    """Returns the first run as an experiment, on the devices of this one.

    Raises:
        UserError: when there are several processes, its log is another one, the arm or a seed is
            not there, or its pretraining did not read masked items.
    """
    if distributed.count() > 1:
        raise UserError(
            "the strategy 'masked_fill' draws in one process, here are "
            f"{distributed.count()}; run --stages expand alone on one host, then the rest"
        )
    context = experiment.context
    settings = context.config.expansion.masked_fill
    first = experiment.other_run(settings.workdir, settings.arm, KEY)
    workdir = first.context.workdir
    if workdir.stage_digest("prepare") != context.workdir.stage_digest("prepare"):
        raise UserError(
            f"{KEY}: {workdir.root} was prepared from another log or with other settings of "
            "`data`, `prepare` or `seed`; item ids would not be the same"
        )
    if first.pretrain_task().causal:
        raise UserError(f"{KEY}: its pretraining reads causally; masked_item is needed")
    return first


def make_score(task: Mixture) -> Callable[[Tree, dict[str, jax.Array], jax.Array], jax.Array]:
    """Returns (params, batch, places int32 [B]) -> logits float32 [B, R] of the items there.

    Args:
        task: reads from both sides; its parameters are expected under "model", what it looks up
            under "constants".
    """

    def score(params: Tree, batch: dict[str, jax.Array], places: jax.Array) -> jax.Array:
        shown = hide(batch, batch["hidden"], hidden_action=task.encoder.num_actions)
        states = task.encode(params["model"], shown, params["constants"], causal=False)
        query = take(states, places[:, None])[:, 0].astype(jnp.float32)
        table, bias = task.item_table(params["model"])
        return query @ table.T + bias[None]

    return score


def _make_model(
    experiment: Experiment, first: Experiment, score: Callable, members: Tree, seed: int
) -> MaskedModel:
    settings = experiment.context.config.expansion.masked_fill
    place = first.context.seeds.index(seed)
    constants = {"item_category": jnp.asarray(first.constants["item_category"])}
    return MaskedModel(
        score=score,
        params={
            "model": jax.tree.map(lambda leaf: jnp.asarray(leaf[place]), members),
            "constants": constants,
        },
        num_rows=first.encoder.table_rows,
        num_gap_bins=first.encoder.num_gap_bins,
        max_len=first.encoder.max_len,
        mask_share=settings.mask_share,
        insert_share=settings.insert_share,
        temperature=settings.temperature,
        top_k=settings.top_k,
    )
