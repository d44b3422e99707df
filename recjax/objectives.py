"""The objectives that pretraining can mix, by name: from a config to the pretraining task.

Called by the experiment and the ahead-of-time compile. An objective is added here: one line, and
its weight in `configs/default.py`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.models import EncoderConfig
from recjax.recipe import catalogue_loss_of
from recjax.tasks import MaskedItem, Mixture, NextItem
from recjax.tasks.encoder_task import EncoderTask
from recjax.text_objectives import NO_TEXTS, TEXT_OBJECTIVES, Texts

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


def make_pretrain_task(
    config: ConfigDict, encoder: EncoderConfig, texts: Texts = NO_TEXTS
) -> Mixture:
    """Returns the mixture of `config.pretrain.objectives`; an objective of weight 0 is left out.

    Args:
        config: complete.
        encoder: shared by the objectives.
        texts: what there is to read, for objectives that do.

    Raises:
        UserError: for an unknown objective, or one with a setting or weight out of range.
    """
    weights = {name: weight for name, weight in config.pretrain.objectives.items() if weight}
    reading = {name: partial(make, texts) for name, make in TEXT_OBJECTIVES.items()}
    known: Mapping[str, Factory] = {**OBJECTIVES, **reading}
    unknown = sorted(weights.keys() - known.keys())
    if unknown:
        raise UserError(
            f"config.pretrain.objectives: unknown {', '.join(unknown)}; known: {', '.join(known)}"
        )
    causal = "next_item" in weights
    try:
        objectives = tuple(known[name](config, encoder, causal) for name in weights)
        return Mixture(encoder, objectives, tuple(weights.values()))
    except ValueError as error:
        raise UserError(f"config.pretrain.objectives: {error}") from error
