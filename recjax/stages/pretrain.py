"""pretrain: the encoder of every arm, on real behaviour and on real plus its own draws."""

from typing import Any

from recjax.context import Context
from recjax.experiment import Experiment
from recjax.train import read_summary, train


def run(context: Context) -> dict[str, Any]:
    """Trains pretrain/ARM for each arm that has its own pretraining data."""
    experiment = Experiment(context)
    if not context.config.pretrain.num_steps:
        context.progress.say("config.pretrain.num_steps = 0: heads start from fresh weights")
        return {}
    arms = dict.fromkeys(experiment.pretrain_arm(arm) for arm in experiment.arms)
    for arm in arms:
        train(experiment.pretraining(arm), context.engine, context.progress)
    return {arm: read_summary(context.workdir / "pretrain" / arm) for arm in arms}
