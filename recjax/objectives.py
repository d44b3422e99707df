"""Tasks by name: from a config to the mixture that pretrains and to the fine-tuning tasks.

Called by the experiment and the pre-flight compiles. An objective is added here: one line, and
its weight in `configs/default.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.expansion.on_device import Adversary, InStep, VirtualAdversary
from recjax.models import EncoderConfig
from recjax.recipe import catalogue_loss_of, make_adaptation
from recjax.tasks import (
    Click,
    FreshRows,
    ItemAttribute,
    MaskedAttribute,
    MaskedItem,
    MaskedSegment,
    Mixture,
    NextItem,
    NextSession,
    ReplacedItem,
    SequenceContrast,
    SequenceGan,
    SequenceVae,
)
from recjax.tasks.encoder_task import EncoderTask
from recjax.text_objectives import NO_TEXTS, TEXT_OBJECTIVES, Texts

_LEAST_EVENTS = 4  # of drawn users on average, for a row of them to be full
# (config, encoder, whether the mixture reads causally) -> objective
Factory = Callable[[ConfigDict, EncoderConfig, bool], EncoderTask]


def _masked_item(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    del causal
    settings = config.pretrain
    return MaskedItem(encoder, item_loss=catalogue_loss_of(settings), mask_rate=settings.mask_rate)


def _next_item(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    del causal
    return NextItem(encoder, item_loss=catalogue_loss_of(config.pretrain), causal=True)


def _replaced_item(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    return ReplacedItem(encoder, causal=causal, **config.pretrain.replaced_item)


def _sequence_contrast(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    return SequenceContrast(encoder, causal=causal, **config.pretrain.sequence_contrast)


def _masked_attribute(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    return MaskedAttribute(encoder, causal=causal, mask_rate=config.pretrain.mask_rate)


def _item_attribute(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    del config, causal
    return ItemAttribute(encoder)


def _masked_segment(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    return MaskedSegment(encoder, causal=causal, **config.pretrain.masked_segment)


def _next_session(config: ConfigDict, encoder: EncoderConfig, causal: bool) -> EncoderTask:
    return NextSession(encoder, causal=causal, **config.pretrain.next_session)


OBJECTIVES: Mapping[str, Factory] = {
    "masked_item": _masked_item,
    "next_item": _next_item,
    "replaced_item": _replaced_item,
    "sequence_contrast": _sequence_contrast,
    "masked_attribute": _masked_attribute,
    "item_attribute": _item_attribute,
    "masked_segment": _masked_segment,
    "next_session": _next_session,
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
        UserError: for an unknown objective, one with a setting or weight out of range, or one that
            the engine cannot train.
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
        mixture = Mixture(encoder, objectives, tuple(weights.values()))
    except ValueError as error:
        raise UserError(f"config.pretrain.objectives: {error}") from error
    cut = [objective.name for objective in objectives if objective.whole_batch]
    if cut and config.parallel.engine == "pmap":
        raise UserError(
            f"config.pretrain.objectives: {', '.join(cut)} compares the rows of all devices, which "
            "pmap keeps apart; set config.parallel.engine = 'jit'"
        )
    return mixture


def make_next_item_task(config: ConfigDict, encoder: EncoderConfig) -> NextItem:
    """Returns the next-item task.

    Raises:
        UserError: when the loss is unknown or the encoder cannot read as asked.
    """
    settings = config.finetune.next_item
    try:
        return NextItem(
            encoder,
            item_loss=catalogue_loss_of(settings),
            causal=settings.causal,
            adapt=make_adaptation(settings.adapt),
            in_step=_in_step(settings.in_step),
        )
    except ValueError as error:
        raise UserError(f"config.finetune.next_item: {error}") from error


def _in_step(settings: ConfigDict) -> InStep:
    return InStep(
        noise_size=settings.noise_size,
        mixup_alpha=settings.mixup_alpha,
        adversary=Adversary(**settings.adversarial),
        virtual=VirtualAdversary(**settings.virtual),
    )


def with_soft_targets(task: NextItem | Mixture, weight: float) -> NextItem | Mixture:
    """Returns the task with the teacher's distribution in its next-item targets.

    Raises:
        UserError: when the task cannot have soft targets.
    """
    try:
        if isinstance(task, NextItem):
            return replace(task, soft_targets=weight)
        if not isinstance(task.item_objective, NextItem):
            raise ValueError("soft_targets needs the objective next_item, got masked_item")
        softened = (
            replace(objective, soft_targets=weight)
            if isinstance(objective, NextItem)
            else objective
            for objective in task.objectives
        )
        return replace(task, objectives=tuple(softened))
    except ValueError as error:
        raise UserError(f"config.expansion: {error}") from error


def with_fresh_rows(task: EncoderTask, share: float, length: int, pack: bool) -> FreshRows:
    """Returns the task on batches a share of whose rows is drawn in the step.

    Args:
        task: reads rows of sequences.
        share: of the rows, above 0.
        length: events of a row.
        pack: whether rows hold several users; else one each.
    """
    return FreshRows(task, share, max(1, length // _LEAST_EVENTS) if pack else 1)


def _transformer(settings: ConfigDict, encoder: EncoderConfig) -> NextItem:
    return NextItem(encoder, item_loss=catalogue_loss_of(settings))


def _sequence_vae(settings: ConfigDict, encoder: EncoderConfig) -> SequenceVae:
    return SequenceVae(
        encoder,
        item_loss=catalogue_loss_of(settings),
        latent_dim=settings.latent_dim,
        kl_weight=settings.kl_weight,
        history_drop=settings.history_drop,
    )


def _sequence_gan(settings: ConfigDict, encoder: EncoderConfig) -> SequenceGan:
    return SequenceGan(
        encoder,
        item_loss=catalogue_loss_of(settings),
        adversarial_weight=settings.adversarial_weight,
        gumbel_temperature=settings.gumbel_temperature,
    )


GeneratorTask = NextItem | SequenceVae | SequenceGan
# strategy -> the task of the model that it draws from, of its section of `config.expansion`
GENERATOR_TASKS: Mapping[str, Callable[[ConfigDict, EncoderConfig], GeneratorTask]] = {
    "transformer": _transformer,
    "sequence_vae": _sequence_vae,
    "sequence_gan": _sequence_gan,
}


def make_generator_task(config: ConfigDict, encoder: EncoderConfig, strategy: str) -> GeneratorTask:
    """Returns the task of the model that a strategy of `GENERATOR_TASKS` draws from.

    Raises:
        UserError: when the loss over items is unknown, or a setting is out of range.
    """
    try:
        return GENERATOR_TASKS[strategy](config.expansion[strategy], encoder)
    except ValueError as error:
        raise UserError(f"config.expansion.{strategy}: {error}") from error


def trained_generators(config: ConfigDict) -> tuple[str, ...]:
    """Returns the strategies of the arms whose models the expand stage must train first."""
    mixes = config.expansion.arms.values()
    return tuple(name for name in GENERATOR_TASKS if any(name in mix for mix in mixes))


def make_click_task(config: ConfigDict, encoder: EncoderConfig) -> Click:
    """Returns the click task; it reads the history the way the encoder was pretrained.

    Raises:
        UserError: when a setting is unknown or out of range.
    """
    settings = config.finetune.click
    try:
        return Click(
            encoder,
            head=settings.head,
            hidden_dims=tuple(settings.hidden_dims),
            causal=config.pretrain.objectives.next_item > 0,
            adapt=make_adaptation(settings.adapt),
            adversary=Adversary(**settings.adversarial),
            num_heads=settings.num_heads,
            search_len=settings.search_len,
            interest_weight=settings.interest_weight,
        )
    except ValueError as error:
        raise UserError(f"config.finetune.click: {error}") from error


FINETUNING: Mapping[str, Callable[[ConfigDict, EncoderConfig], NextItem | Click]] = {
    "next_item": make_next_item_task,
    "click": make_click_task,
}


def make_finetune_task(config: ConfigDict, encoder: EncoderConfig, name: str) -> NextItem | Click:
    """Returns a fine-tuning task by name.

    Raises:
        UserError: for an unknown name.
    """
    if name not in FINETUNING:
        known = ", ".join(FINETUNING)
        raise UserError(f"config.finetune.tasks: unknown {name!r}; known: {known}")
    return FINETUNING[name](config, encoder)
