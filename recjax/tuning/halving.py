"""Successive halving: at a few steps on the way, the rungs, only the best trials go on.

A decision reads nothing but validation curves, so a resumed run decides as an uninterrupted one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Curve = Mapping[int, float]  # step -> best validation value up to it


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving: trials come one by one, each meets those before it.

    Attributes:
        rungs: steps at which a trial competes, increasing.
        reduction_factor: one of so many goes on.

    Reference:
        Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning", Algorithm 2.
    """

    rungs: tuple[int, ...]
    reduction_factor: int

    @classmethod
    def over(cls, evaluations: Sequence[int], num_rungs: int, reduction_factor: int) -> "Halving":
        """Returns rungs at 1/factor, 1/factor^2, ... of the steps.

        Args:
            evaluations: steps at which a trial is evaluated, the last is its end.
            num_rungs: how many; 0 lets every trial run to its end.
            reduction_factor: at least 2.

        Example:
            >>> Halving.over(range(10, 101, 10), num_rungs=2, reduction_factor=3).rungs
            (20, 40)
        """
        end = evaluations[-1]
        goals = [end / reduction_factor**rung for rung in range(num_rungs, 0, -1)]
        rungs = {next(step for step in evaluations if step >= goal) for goal in goals}
        return cls(tuple(sorted(rungs - {end})), reduction_factor)

    def loses(self, curve: Curve, rivals: Sequence[Curve]) -> bool:
        """Returns whether a trial is not among the best at a rung that it has reached.

        Args:
            curve: of the trial, as far as it has come.
            rivals: curves of the trials before it; those that did not reach a rung do not count
                there. Ties go on.
        """
        for rung in self.rungs:
            if rung not in curve:
                continue
            field = sorted([rival[rung] for rival in rivals if rung in rival] + [curve[rung]])
            num_kept = max(1, len(field) // self.reduction_factor)
            if curve[rung] < field[-num_kept]:
                return True
        return False


def evaluation_steps(num_steps: int, interval_steps: int) -> list[int]:
    """Returns the steps at which a training is evaluated.

    Example:
        >>> evaluation_steps(25, 10)
        [10, 20, 25]
    """
    ends = range(1, math.ceil(num_steps / interval_steps) + 1)
    return [min(place * interval_steps, num_steps) for place in ends]
