"""The kinds of data, and which stages have something to do for each. Imports no model."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.workdir import TABLE_STAGES

LOG, TABLE = "log", "table"  # behaviour of users; labelled rows


def is_table(config: ConfigDict) -> bool:
    """Returns whether the data are labelled rows.

    Raises:
        UserError: for an unknown kind of data.
    """
    kind = config.data.kind
    if kind not in (LOG, TABLE):
        raise UserError(f"config.data.kind = {kind!r}; known: {LOG}, {TABLE}")
    return kind == TABLE


def check_stages(config: ConfigDict, stages: Sequence[str]) -> None:
    """Refuses stages that the kind of data has nothing for.

    Raises:
        UserError: naming the first.
    """
    unfit = [stage for stage in stages if is_table(config) and stage not in TABLE_STAGES]
    if unfit:
        raise UserError(
            f"stage {unfit[0]!r} reads a behaviour log, but config.data.kind is {TABLE!r}; a table "
            f"has: {', '.join(TABLE_STAGES)}"
        )
