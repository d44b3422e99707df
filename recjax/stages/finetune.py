"""finetune: the heads of every arm, each started from the arm's pretrained encoder."""

from typing import Any

from recjax.context import Context
from recjax.experiment import Experiment
from recjax.train import read_summary, train


def run(context: Context) -> dict[str, Any]:
    """Trains finetune/TASK/ARM for every task that the prepared log has examples for."""
    experiment = Experiment(context)
    summaries = {}
    for task in experiment.tasks:
        for arm in experiment.arms:
            train(experiment.finetuning(task, arm), context.engine, context.progress)
            folder = context.workdir / "finetune" / task / arm
            summaries[f"{task}/{arm}"] = read_summary(folder)
    return summaries
