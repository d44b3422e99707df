"""pretrain: the encoder of every arm, on real behaviour and on real plus its own draws."""

import shutil
from typing import Any

import jax
from jax.experimental import multihost_utils

from recjax import distributed, warm_start
from recjax.context import Context
from recjax.errors import UserError
from recjax.experiment import Experiment
from recjax.models import write_bert
from recjax.tasks import TextTask
from recjax.train import read_costs, train


def run(context: Context) -> dict[str, Any]:
    """Trains pretrain/ARM for each arm that has its own pretraining data."""
    experiment = Experiment(context)
    if not context.config.pretrain.num_steps:
        if context.config.pretrain.warm_start.workdir:
            raise UserError(
                f"{warm_start.KEY}.workdir is given, but config.pretrain.num_steps = 0: nothing "
                "would begin there; give steps, or no workdir"
            )
        context.progress.say("config.pretrain.num_steps = 0: heads start from fresh weights")
        return {}
    arms = dict.fromkeys(experiment.pretrain_arm(arm) for arm in experiment.arms)
    for arm in arms:
        train(experiment.pretraining(arm), context.engine, context.progress)
        _keep_text_encoders(experiment, arm)
    return read_costs({arm: context.workdir / "pretrain" / arm for arm in arms})


def _keep_text_encoders(experiment: Experiment, arm: str) -> None:
    """Writes pretrain/ARM/text_encoder/seed_N, Hugging Face folders, where a text encoder learned.

    Such a folder can be another run's `config.features.folder`: item vectors of titles.
    """
    objectives = experiment.pretrain_task().objectives
    text = next((task.text for task in objectives if isinstance(task, TextTask)), None)
    if text is None:
        return
    context = experiment.context
    members = multihost_utils.process_allgather(experiment.text_encoders(arm), tiled=True)
    if not distributed.is_main():
        return
    for number, seed in enumerate(context.seeds):
        params = jax.tree.map(lambda leaf, m=number: leaf[m], members)
        folder = context.workdir / "pretrain" / arm / "text_encoder" / f"seed_{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        write_bert(folder, text, params, context.workdir / "prepared" / "tokenizer")
