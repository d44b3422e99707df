"""How an arm uses its draws: how many, in which training, at which share of the batches.

The settings of `config.expansion` hold for every arm; `config.expansion.overrides` changes them for
one. Not here: which strategies an arm mixes (`arms`), and the order of the records (`recjax.data`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_USES = ("pretrain", "finetune", "both")


@dataclass(frozen=True)
class ArmSettings:
    """Settings of one arm; names equal the keys of `config.expansion`.

    Attributes:
        ratio: synthetic users per real one, 0 or more.
        use_in: "pretrain", "finetune" or "both".
        synthetic_share: points (share of the training's steps, share of synthetic records in a
            batch), linear in between and level outside; () takes all records equally often.
        soft_targets: weight of the generator's distribution in the next-item targets, 0 to 1, of
            real and synthetic users, in the trainings that `use_in` names.
        fresh_share: share of the rows of a batch whose users the generator draws anew in every
            step, 0 to 1, in these trainings.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> faded = ArmSettings(2.0, "pretrain", ((0.5, 1.0), (1.0, 0.0)), 0.0, 0.0)
        >>> [faded.share_at(step, num_steps=100) for step in (0, 50, 75)]
        [1.0, 1.0, 0.5]
    """

    ratio: float
    use_in: str
    synthetic_share: Sequence[Sequence[float]]
    soft_targets: float
    fresh_share: float

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not (np.isfinite(self.ratio) and self.ratio >= 0):
            raise ValueError(
                f"ratio is {self.ratio}; must be 0 or more synthetic users per real one"
            )
        if self.use_in not in _USES:
            raise ValueError(f"use_in = {self.use_in!r} is unknown; known: {', '.join(_USES)}")
        for name in ("soft_targets", "fresh_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; must be from 0 to 1")
        points = self.synthetic_share
        if not all(len(point) == 2 and 0 <= min(point) <= max(point) <= 1 for point in points):
            raise ValueError(
                f"synthetic_share = {points}: give pairs (share of the steps, share of synthetic "
                "records), each from 0 to 1"
            )
        places = [point[0] for point in points]
        if places != sorted(set(places)):
            raise ValueError(f"synthetic_share = {points}: its shares of the steps must rise")

    def enters(self, stage: str) -> bool:
        """Returns whether the draws are used in "pretrain" or in "finetune"."""
        return self.use_in in (stage, "both")

    def share_at(self, step: int, *, num_steps: int) -> float:
        """Returns the share of synthetic records in the batch of a step, from 0; needs points."""
        places, shares = zip(*self.synthetic_share, strict=True)
        return float(np.interp(step / num_steps, places, shares))


def settings_of_arms(
    arms: Sequence[str], settings: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]
) -> dict[str, ArmSettings]:
    """Returns each arm's settings: those of all arms, and its own over them.

    Args:
        arms: names of the arms.
        settings: the fields of `ArmSettings`; other keys are not looked at.
        overrides: arm -> some of these keys.

    Raises:
        ValueError: if an override names no arm or no such setting, or a setting is out of range.
    """
    names = list(ArmSettings.__dataclass_fields__)
    for arm, own in overrides.items():
        if arm not in arms:
            raise ValueError(f"overrides.{arm}: no such arm; there are {', '.join(arms) or 'none'}")
        for name in own:
            if name not in names:
                raise ValueError(f"overrides.{arm}.{name}: an arm may have {', '.join(names)}")
    shared = {name: settings[name] for name in names}
    return {arm: ArmSettings(**{**shared, **overrides.get(arm, {})}) for arm in arms}
