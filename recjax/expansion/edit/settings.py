"""Settings of the edits, one dataclass; names equal the keys of `config.expansion.edits`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recjax.expansion.strategy import ExpansionData

SPLICE_BY = ("item", "category")
_MOST_GAP_SCALE = 2.0  # a standard deviation of e^2: beyond it a minute may become years


@dataclass(frozen=True)
class EditConfig:
    """How much the edits change.

    Attributes:
        crop_share: of a user's events, next to each other, that stay.
        reorder_share: of a user's events, next to each other, that change places.
        substitute_share: of a user's events whose item a similar one stands in for.
        insert_share: events that are put in, as a share of those that were there.
        swap_share: of a user's events whose item is drawn by popularity.
        gap_scale: standard deviation of the logarithm of the factor of a gap.
        action_share: of a user's events that get another action.
        splice_by: what two users must share to be joined, "item" or "category".

    Raises:
        ValueError: if a share lies outside (0, 1] (crop_share: is 1 too), gap_scale outside (0, 2],
            or splice_by is unknown.
    """

    crop_share: float
    reorder_share: float
    substitute_share: float
    insert_share: float
    swap_share: float
    gap_scale: float
    action_share: float
    splice_by: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_share") and not 0 < value <= 1:
                raise ValueError(f"edits.{name} is {value}; must be above 0 and at most 1")
        if self.crop_share == 1:
            raise ValueError("edits.crop_share is 1; must be below 1, or nothing is cut off")
        if not 0 < self.gap_scale <= _MOST_GAP_SCALE:
            raise ValueError(
                f"edits.gap_scale is {self.gap_scale}; must be above 0 and at most "
                f"{_MOST_GAP_SCALE}"
            )
        if self.splice_by not in SPLICE_BY:
            raise ValueError(
                f"edits.splice_by = {self.splice_by!r} is unknown; known: {', '.join(SPLICE_BY)}"
            )


def get_settings(data: "ExpansionData", strategy: str) -> EditConfig:
    """Returns the settings of the edits.

    Raises:
        ValueError: if there are none; names the strategy that asks.
    """
    if data.edits is None:
        raise ValueError(f"{strategy} needs data.edits, the settings of edits")
    return data.edits
