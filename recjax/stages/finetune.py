"""finetune: the heads of every arm, each started from the arm's pretrained encoder."""

from typing import Any

from recjax.context import Context
from recjax.stages.plans import open_plan
from recjax.train import read_costs, train


def run(context: Context) -> dict[str, Any]:
    """Trains finetune/TASK/ARM for every task that the prepared data have examples for."""
    experiment = open_plan(context)
    folders = {}
    for task in experiment.tasks:
        for arm in experiment.arms:
            train(experiment.finetuning(task, arm), context.engine, context.progress)
            folders[f"{task}/{arm}"] = context.workdir / "finetune" / task / arm
    return read_costs(folders)
