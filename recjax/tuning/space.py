"""The search space as data: which config keys vary, and between what."""

from dataclasses import dataclass
from typing import Any

KINDS = ("float", "log", "int", "choice")
_BUDGET = ("num_steps", "eval_interval_steps")  # the same for every trial


@dataclass(frozen=True)
class Dimension:
    """One key of the space.

    Attributes:
        key: dotted config key.
        kind: "float", "log" (a float, even in its logarithm), "int" or "choice".
        values: (low, high), both included, or the choices.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Raises ValueError when the values do not fit the kind."""
        if self.kind not in KINDS:
            raise ValueError(f"{self.key}: kind {self.kind!r} is unknown; known: {KINDS}")
        if self.kind == "choice":
            if len(set(map(repr, self.values))) < max(2, len(self.values)):
                raise ValueError(f"{self.key}: give 2 or more different choices: {self.values}")
        else:
            self._check_range()

    def _check_range(self) -> None:
        types = (int,) if self.kind == "int" else (int, float)
        if len(self.values) != 2 or not all(type(value) in types for value in self.values):
            raise ValueError(
                f"{self.key}: {self.kind!r} takes two numbers, low and high: {self.values}"
            )
        low, high = self.values
        if not low < high:
            raise ValueError(f"{self.key}: low = {low} must be below high = {high}")
        if self.kind == "log" and low <= 0:
            raise ValueError(f"{self.key}: 'log' needs low above 0: {low}")


@dataclass(frozen=True)
class TuneConfig:
    """Settings of the search; names equal the config keys.

    Attributes:
        num_trials: settings tried, for every arm alike.
        num_seeds: members of a trial.
        arms: which arms are tuned; () = all.
        task: the fine-tuning whose validation metric chooses.
        num_rungs: times that a trial competes before its end.
        reduction_factor: one of so many goes on at a rung.
        space: (key, kind, low, high) or (key, "choice", values) each.
    """

    num_trials: int
    num_seeds: int
    arms: tuple[str, ...]
    task: str
    num_rungs: int
    reduction_factor: int
    space: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        """Raises ValueError for a setting out of range."""
        least = {"num_trials": 1, "num_seeds": 1, "num_rungs": 0, "reduction_factor": 2}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)}; give at least {low}")

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The space, read.

        Raises:
            ValueError: naming the key, and what is wrong with its entry.
        """
        dimensions = tuple(_read_entry(entry) for entry in self.space)
        keys = [dimension.key for dimension in dimensions]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"space names {keys}; name at least one key, each once")
        for key in keys:
            self._check_reach(key)
        return dimensions

    def _check_reach(self, key: str) -> None:
        sections = ("model.", "pretrain.", f"finetune.{self.task}.")
        if not key.startswith(sections):
            raise ValueError(
                f"space: {key} does not change a trial of {self.task!r}; keys begin with "
                f"{', '.join(sections)}"
            )
        if key.endswith(_BUDGET):
            raise ValueError(f"space: {key} is the same for every trial; set it as config.{key}")


def _read_entry(entry: Any) -> Dimension:
    try:
        key, kind, *values = entry
        dimension = Dimension(str(key), kind, tuple(values[0] if kind == "choice" else values))
    except (TypeError, IndexError) as error:
        raise ValueError(
            f"space: {entry!r} is not (key, kind, low, high) or (key, 'choice', values)"
        ) from error
    except ValueError as error:
        raise ValueError(f"space: {error}") from error
    return dimension
