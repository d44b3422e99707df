"""Heads on a labelled table: from a config and the sizes of its features to settings and tasks.

No data: the experiment knows the sizes from prepared rows, the ahead-of-time compile from the
config. Called by `recjax.row_experiment` and `recjax.planned`.
"""

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.expansion.on_device import Adversary
from recjax.models.ctr import CtrConfig, find_head
from recjax.tasks import RowClick

TASK = "row_click"
_SECTION = f"config.finetune.{TASK}"


def heads_of(config: ConfigDict) -> tuple[str, ...]:
    """Returns the heads that a config trains.

    Raises:
        UserError: if there is none, one stands twice, or an override names none of them.
    """
    section = config.finetune[TASK]
    heads = tuple(section.heads)
    if not heads or len(set(heads)) < len(heads):
        raise UserError(f"{_SECTION}.heads = {heads}: name at least one head, each once")
    for head in (*heads, *section.overrides):
        try:
            find_head(head)
        except ValueError as error:
            raise UserError(f"{_SECTION}: {error}") from error
    return heads


def settings_of(config: ConfigDict, head: str) -> ConfigDict:
    """Returns the training and model settings of a head: those of all heads, its own over them.

    Raises:
        UserError: when an own setting is unknown.
    """
    section = config.finetune[TASK].copy_and_resolve_references()
    for key, value in section.overrides.get(head, {}).items():
        owner = section.model if key in section.model else section
        if key not in owner or key in ("heads", "overrides", "model", "adversarial"):
            raise UserError(f"{_SECTION}.overrides.{head}.{key} is no setting of a head")
        owner[key] = value
    return section


def make_row_task(
    config: ConfigDict, head: str, *, num_rows: int, slots: tuple[int, ...]
) -> RowClick:
    """Returns the task with a head.

    Args:
        config: complete.
        head: its name.
        num_rows: rows of the features' table, before they are rounded up.
        slots: of each feature.

    Raises:
        UserError: when a setting is out of range.
    """
    section = settings_of(config, head)
    settings = dict(section.model)
    multiple = settings.pop("vocab_multiple")
    rows = -(-num_rows // multiple) * multiple
    try:
        model = CtrConfig(head=head, num_rows=rows, slots=slots, **settings)
        return RowClick(model, Adversary(**section.adversarial))
    except ValueError as error:
        raise UserError(f"{_SECTION}, head {head}: {error}") from error
