"""Frozen settings of the log room; field names equal the keys of config.data and config.prepare.

Here lives what a stage hands over once, at the border: plain dataclasses, checked when made.
Not here: any default (configs/default.py holds them all) and any reading of files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from recjax.errors import UserError

FORMATS = ("auto", "parquet", "csv", "jsonl", "sequences")
TIME_UNITS = ("auto", "seconds", "milliseconds", "microseconds", "text", "order")
BACKENDS = ("duckdb", "spark")
SPLIT_METHODS = ("time", "leave_one_out", "cold_users", "cold_items", "folds")

_Settings = TypeVar("_Settings")


@dataclasses.dataclass(frozen=True)
class EventsConfig:
    """Where the events are and how their columns are called (keys of config.data)."""

    source: str  # "file" or "ibis"; other sources are written to a file first
    path: str
    format: str
    delimiter: str
    columns: Mapping[str, str]
    actions: tuple[str, ...]
    action_names: Mapping[str, str]
    default_action: str
    time_unit: str
    impressions_path: str
    ibis_url: str
    ibis_table: str

    def __post_init__(self) -> None:
        _check_choice("config.data.format", self.format, FORMATS)
        _check_choice("config.data.time_unit", self.time_unit, TIME_UNITS)
        if not self.actions:
            raise UserError(
                "config.data.actions is empty; name at least one action, e.g. ('view',)"
            )
        _check_choice("config.data.default_action", self.default_action, tuple(self.actions))
        for value, action in self.action_names.items():
            _check_choice(f"config.data.action_names.{value}", action, tuple(self.actions))


@dataclasses.dataclass(frozen=True)
class CatalogueConfig:
    """The item table (keys of config.data)."""

    catalogue_path: str
    catalogue_columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class UsersConfig:
    """The user table (keys of config.data)."""

    users_path: str
    users_columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class GraphConfig:
    """The knowledge graph (keys of config.data)."""

    graph_path: str
    graph_columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class CleaningConfig:
    """What is taken out of a log (config.prepare.cleaning); 0 or "" turns a rule off."""

    drop_duplicates: bool
    earliest_time: str  # ISO date or date-time, UTC
    latest_time: str  # "" = now
    bot_max_events_per_minute: int
    bot_max_events_per_day: int
    bot_min_gap_regularity: float  # coefficient of variation of the gaps
    bot_min_events: int
    user_core: int  # events
    item_core: int  # events
    session_gap_seconds: int


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """How events are dealt to train, valid and test (config.prepare.split)."""

    method: str
    valid_share: float
    test_share: float
    fold: int
    num_folds: int
    user_share: float
    user_fold: int
    seed: int

    def __post_init__(self) -> None:
        _check_choice("config.prepare.split.method", self.method, SPLIT_METHODS)
        if not 0 < self.user_share <= 1:
            raise UserError(
                f"config.prepare.split.user_share={self.user_share}; give a share in (0, 1]"
            )
        num_shares = int(1 / self.user_share + 1e-9)
        if not 0 <= self.user_fold < num_shares:
            raise UserError(
                f"config.prepare.split.user_fold={self.user_fold}; user_share={self.user_share} "
                f"makes {num_shares} disjoint shares: give one of 0..{num_shares - 1}"
            )
        if self.method == "folds":
            self._check_folds()
        elif self.method != "leave_one_out":
            self._check_shares()

    def _check_folds(self) -> None:
        if self.num_folds < 3:
            raise UserError(
                f"config.prepare.split.num_folds={self.num_folds}; at least 3 are needed "
                "(one test, one validation, the others training)"
            )
        if not 0 <= self.fold < self.num_folds:
            raise UserError(
                f"config.prepare.split.fold={self.fold}; give one of 0..{self.num_folds - 1}"
            )

    def _check_shares(self) -> None:
        for key, share in (("valid_share", self.valid_share), ("test_share", self.test_share)):
            if not 0 < share < 1:
                raise UserError(f"config.prepare.split.{key}={share}; give a share in (0, 1)")
        if self.valid_share + self.test_share >= 1:
            raise UserError(
                "config.prepare.split.valid_share and test_share add up to "
                f"{self.valid_share + self.test_share:g}; nothing is left for training"
            )


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """The table engine and its limits (keys of config.prepare)."""

    backend: str
    memory_gib: float
    max_quarantine_share: float
    target_actions: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_choice("config.prepare.backend", self.backend, BACKENDS)
        if self.memory_gib <= 0:
            raise UserError(f"config.prepare.memory_gib={self.memory_gib}; give gibibytes > 0")


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """All that the log room needs to know for one run."""

    events: EventsConfig
    catalogue: CatalogueConfig
    users: UsersConfig
    graph: GraphConfig
    cleaning: CleaningConfig
    split: SplitConfig
    engine: EngineConfig

    def __post_init__(self) -> None:
        for action in self.engine.target_actions:
            _check_choice("config.prepare.target_actions", action, tuple(self.events.actions))


def pick(settings_class: type[_Settings], section: Mapping[str, Any]) -> _Settings:
    """Makes `settings_class` from the keys of `section` that it has as fields.

    Example:
        >>> pick(GraphConfig, {"graph_path": "", "graph_columns": {}, "path": "log.csv"})
        GraphConfig(graph_path='', graph_columns={})
    """
    names = [field.name for field in dataclasses.fields(settings_class)]  # type: ignore[arg-type]
    return settings_class(**{name: _plain(section[name]) for name in names})


def log_settings(data: Mapping[str, Any], prepare: Mapping[str, Any]) -> LogSettings:
    """Returns the settings of config.data and config.prepare (any mapping with [] and items())."""
    return LogSettings(
        events=pick(EventsConfig, data),
        catalogue=pick(CatalogueConfig, data),
        users=pick(UsersConfig, data),
        graph=pick(GraphConfig, data),
        cleaning=pick(CleaningConfig, prepare["cleaning"]),
        split=pick(SplitConfig, prepare["split"]),
        engine=pick(EngineConfig, prepare),
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return dict(value.items())
    return tuple(value) if isinstance(value, list | tuple) else value


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{key}={value!r} is not known; give one of: {', '.join(choices)}")
