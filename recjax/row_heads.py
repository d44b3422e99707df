"""Heads on a labelled table: from a config and the sizes of its features to settings and tasks.

A table has one outcome (task row_click), or several (row_outcomes): then each outcome alone stands
beside the heads, as the arms single_0, single_1, ... No data: the experiment knows the sizes from
prepared rows, the ahead-of-time compile from the config. Called by `recjax.row_experiment` and
`recjax.planned`.
"""

from typing import Any

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.expansion.on_device import Adversary
from recjax.models.ctr import HEADS, OUTCOME_HEADS, CtrConfig, find_head
from recjax.tasks import RowClick, RowOutcomes

SINGLE = "single"  # how arms that learn one outcome alone begin
_ALONE = "shared_bottom"  # the head that does, with settings of its own like any other
_OF_ALL_HEADS = ("heads", "singles", "overrides", "model", "adversarial")


def task_name_of(config: ConfigDict) -> str:
    """Returns the name of the task of a table, which is that of its section in the config."""
    several = RowOutcomes.name in config.finetune.tasks
    return RowOutcomes.name if several else RowClick.name


def outcomes_of(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the outcomes, the table's label first.

    Raises:
        UserError: if there is only one where several are learned.
    """
    table = config.data.table
    if task_name_of(config) == RowClick.name:
        return (table.label,)
    if not table.also:
        raise UserError("config.data.table.also is empty: row_outcomes needs more outcomes")
    return (table.label, *table.also)


def arms_of(config: ConfigDict) -> tuple[str, ...]:
    """Returns the heads that a config trains, behind each outcome alone if it asks for those.

    Raises:
        UserError: if there is none, one stands twice, or an override names none of them.
    """
    where, section = _section(config)
    several = task_name_of(config) == RowOutcomes.name
    heads = tuple(section.heads)
    if not heads or len(set(heads)) < len(heads):
        raise UserError(f"{where}.heads = {heads}: name at least one head, each once")
    for head in (*heads, *section.overrides):
        try:
            find_head(head, OUTCOME_HEADS if several else HEADS)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    if not several or not section.singles:
        return heads
    return (*(f"{SINGLE}_{k}" for k in range(len(outcomes_of(config)))), *heads)


def settings_of(config: ConfigDict, arm: str) -> ConfigDict:
    """Returns the training and model settings of an arm: those of all heads, its own over them.

    Raises:
        UserError: when an own setting is unknown.
    """
    where, shared = _section(config)
    section, head = shared.copy_and_resolve_references(), _head_of(arm)
    for key, value in section.overrides.get(head, {}).items():
        owner = section.model if key in section.model else section
        if key not in owner or key in _OF_ALL_HEADS:
            raise UserError(f"{where}.overrides.{head}.{key} is no setting of a head")
        owner[key] = value
    return section


def make_row_task(
    config: ConfigDict, arm: str, *, num_rows: int, slots: tuple[int, ...]
) -> RowClick:
    """Returns the task of an arm.

    Args:
        config: complete.
        arm: a head, or an outcome alone.
        num_rows: rows of the features' table, before they are rounded up.
        slots: of each feature.

    Raises:
        UserError: when a setting is out of range.
    """
    section, outcomes = settings_of(config, arm), outcomes_of(config)
    settings = dict(section.model)
    multiple = settings.pop("vocab_multiple")
    rows = -(-num_rows // multiple) * multiple
    sizes = {"num_rows": rows, "slots": slots, "num_outcomes": len(outcomes)}
    try:
        model = CtrConfig(head=_head_of(arm), **sizes, **settings)
        if task_name_of(config) == RowClick.name:
            return RowClick(model, Adversary(**section.adversarial))
        return RowOutcomes(model, **_outcome_settings(section, arm, outcomes))
    except ValueError as error:
        raise UserError(f"{_section(config)[0]}, head {arm}: {error}") from error


def _outcome_settings(section: ConfigDict, arm: str, outcomes: tuple[str, ...]) -> dict[str, Any]:
    weights = tuple(section.weights) or (1.0,) * len(outcomes)
    if arm.startswith(SINGLE):
        alone = int(arm.rpartition("_")[2])
        weights = tuple(float(k == alone) for k in range(len(outcomes)))
    settings = {"balance": section.balance, "order_weight": section.order_weight}
    return {"outcomes": outcomes, "weights": weights, **settings}


def _head_of(arm: str) -> str:
    return _ALONE if arm.startswith(SINGLE) else arm


def _section(config: ConfigDict) -> tuple[str, ConfigDict]:
    """Where the settings of the task stand, and they."""
    name = task_name_of(config)
    return f"config.finetune.{name}", config.finetune[name]
