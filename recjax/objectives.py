"""The objectives that pretraining can mix, by name: from a config to the pretraining task.

Called by the experiment and the ahead-of-time compile. An objective is added here: one line, and
its weight in `configs/default.py`.
"""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.models import EncoderConfig
from recjax.recipe import catalogue_loss_of
from recjax.tasks import MaskedItem, Mixture, NextItem
from recjax.tasks.encoder_task import EncoderTask

# (config, encoder, whether the mixture reads causally) -> objective
Factory = Callable[[ConfigDict, EncoderConfig, bool], EncoderTask]


def _masked_item(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    del causal
    settings = config.pretrain
    return MaskedItem(encoder, item_loss=catalogue_loss_of(settings), mask_rate=settings.mask_rate)


def _next_item(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    del causal
    return NextItem(encoder, item_loss=catalogue_loss_of(config.pretrain), causal=True)


OBJECTIVES: Mapping[str, Factory] = {
    "masked_item": _masked_item,
    "next_item": _next_item,
}


def make_pretrain_task(config: ConfigDict, encoder: EncoderConfig) -> Mixture:
    """Returns the mixture of `config.pretrain.objectives`; an objective of weight 0 is left out.

    Raises:
        UserError: for an unknown objective, or one with a setting or weight out of range.
    """
    weights = {name: weight for name, weight in config.pretrain.objectives.items() if weight}
    unknown = sorted(weights.keys() - OBJECTIVES.keys())
    if unknown:
        raise UserError(
            f"config.pretrain.objectives: unknown {', '.join(unknown)}; "
            f"known: {', '.join(OBJECTIVES)}"
        )
    causal = "next_item" in weights
    try:
        objectives = tuple(OBJECTIVES[name](config, encoder, causal) for name in weights)
        return Mixture(encoder, objectives, tuple(weights.values()))
    except ValueError as error:
        raise UserError(f"config.pretrain.objectives: {error}") from error
