"""Labelled tables: one row is one decision with its outcome, in parts train, valid and test.

Here lives finding, reading, checking and splitting them. What the columns mean is in `features`,
what is written in `prepare_rows`, which alone calls this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recjax.data.click_examples import hash_uniform
from recjax.data.datasets.raw_files import iter_csv, open_raw
from recjax.data.sources import SourceFile, describe_all, require_columns
from recjax.errors import UserError

PARTS = ("train", "valid", "test")
DATASETS = {  # name -> module : function, and the settings that it takes behind the path
    "frappe": ("recjax.data.datasets.frappe:read_frappe", ("seed",)),
    "census": ("recjax.data.datasets.census:read_census", ()),
    "view_outcomes": ("recjax.data.datasets.view_outcomes:read_view_outcomes", ()),
    "cart_outcomes": ("recjax.data.datasets.cart_outcomes:read_cart_outcomes", ("horizon_days",)),
    "user_churn": ("recjax.data.datasets.user_churn:read_user_churn", ("horizon_days",)),
    "invoice_churn": ("recjax.data.datasets.user_churn:read_invoice_churn", ("horizon_days",)),
}
_WITH_PARTS = ("frappe", "census")  # others are one table, split by the config's rule
_SPLITS = ("rows", "time")
_KEY = "config.data.table"


@dataclass(frozen=True)
class Outcome:
    """A column of yes and no.

    Attributes:
        name: of the outcome.
        column: of the table.
        yes: its value that means yes, all others no; "" = the column is 0 or 1.
    """

    name: str
    column: str
    yes: str


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Where a labelled table is (keys of config.data.table) and how it is split.

    Attributes:
        path: of the rows of training, or of all rows; config.data.path.
        delimiter: of CSV files; config.data.delimiter.
        dataset: "" or the public set whose original files lie in `path`, one of `DATASETS`.
        valid_path: rows of validation; "" cuts them and those of test out of `path`.
        test_path: rows of test.
        label: column of the outcome.
        yes: its value that means yes, all others no; "" = the column is 0 or 1.
        also: further outcomes, name -> {"column", "yes"}.
        user: column that says whose row it is; "" = unknown.
        item: column that says what it is about; "" = unknown.
        time: column that orders the rows, for the split "time".
        horizon_days: of the data sets that ask what comes within days.
        method: config.prepare.split.method: "rows" (at random) or "time" (the last ones).
        valid_share: of the rows.
        test_share: of the rows.
        seed: of the split, and of what a data set draws.

    Raises:
        UserError: if a setting is unknown or out of range, naming it.
    """

    path: str
    delimiter: str
    dataset: str
    valid_path: str
    test_path: str
    label: str
    yes: str
    also: Mapping[str, Mapping[str, str]]
    user: str
    item: str
    time: str
    horizon_days: int
    method: str
    valid_share: float
    test_share: float
    seed: int

    def __post_init__(self) -> None:
        if self.dataset and self.dataset not in DATASETS:
            raise UserError(f"{_KEY}.dataset={self.dataset!r}; known: {', '.join(DATASETS)}, ''")
        if bool(self.valid_path) != bool(self.test_path):
            raise UserError(f"{_KEY}: give valid_path and test_path, or neither to have rows split")
        if not self.label:
            raise UserError(f"{_KEY}.label is ''; name the column of the outcome")
        if self.horizon_days < 1:
            raise UserError(f"{_KEY}.horizon_days={self.horizon_days}; give at least 1")
        for name, settings in self.also.items():
            if set(settings) != {"column", "yes"} or not settings["column"] or name == self.label:
                raise UserError(f"{_KEY}.also.{name}: give 'column' and 'yes', of another outcome")
        if not self.split_by_rule:
            return
        if self.method not in _SPLITS:
            raise UserError(
                f"config.prepare.split.method={self.method!r}; a table is split by one of: "
                f"{', '.join(_SPLITS)}"
            )
        if self.method == "time" and not self.time:
            raise UserError(f"{_KEY}.time is ''; the split 'time' needs a column that orders rows")
        whole = self.valid_share + self.test_share
        if min(self.valid_share, self.test_share) <= 0 or whole >= 1:
            raise UserError(
                f"config.prepare.split.valid_share={self.valid_share} and test_share="
                f"{self.test_share}: give shares above 0 that leave something for training"
            )

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The label, under the name of its column, and the further outcomes."""
        further = (Outcome(name, **settings) for name, settings in self.also.items())
        return (Outcome(self.label, self.label, self.yes), *further)

    @property
    def split_by_rule(self) -> bool:
        """Whether the parts are cut out of one table."""
        if self.dataset:
            return self.dataset not in _WITH_PARTS
        return not self.valid_path


def read_parts(config: TableConfig, columns: Iterable[str]) -> dict[str, pa.Table]:
    """Returns the parts with the columns of the features and those that the config names.

    Raises:
        UserError: if a file or column is missing, a label is not 0 or 1, or a part lacks a class.
    """
    labels = [outcome.column for outcome in config.outcomes]
    named = (*labels, config.user, config.item, config.time)
    wanted = sorted({*columns, *(name for name in named if name)})
    if config.dataset:
        parts = _read_dataset(config, wanted)
    elif config.split_by_rule:
        parts = _split(config, _read(config.path, "config.data.path", wanted, config.delimiter))
    else:
        paths = {"config.data.path": config.path}
        paths |= {f"{_KEY}.{part}_path": getattr(config, f"{part}_path") for part in PARTS[1:]}
        tables = [_read(path, key, wanted, config.delimiter) for key, path in paths.items()]
        parts = dict(zip(PARTS, tables, strict=True))
    for name, table in parts.items():
        for outcome in config.outcomes:
            _check_labels(name, table, outcome)
    return parts


def read_labels(table: pa.Table, outcome: Outcome) -> np.ndarray:
    """Returns an outcome of every row, float32 [N]; NaN where it is unknown."""
    column = table.column(outcome.column).combine_chunks()
    if outcome.yes:
        column = pc.equal(column.cast(pa.string()), outcome.yes)
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        return column.cast(pa.float32()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return np.full(len(table), np.nan, np.float32)


def _read_dataset(config: TableConfig, wanted: list[str]) -> dict[str, pa.Table]:
    path = Path(config.path)
    if not config.path or not path.exists():
        raise UserError(f"config.data.path={config.path!r}: give the files of {config.dataset}")
    function, settings = DATASETS[config.dataset]
    module, name = function.split(":")
    read: Callable[..., dict[str, pa.Table]] = getattr(importlib.import_module(module), name)
    parts = read(path, *(getattr(config, setting) for setting in settings))
    if "test" not in parts:
        parts = _split(config, parts["train"])
    elif "valid" not in parts:
        parts = parts | _cut_valid(config, parts["train"])
    found = parts["train"].column_names
    file = SourceFile(path, config.dataset, tuple(found), dict.fromkeys(found, "string"))
    require_columns(file, {name: name for name in wanted}, "config.prepare.features")
    return parts


def _read(path: str, key: str, wanted: list[str], delimiter: str) -> pa.Table:
    tables = []
    for file in describe_all(path, key, wanted, delimiter):
        require_columns(file, {name: name for name in wanted}, "config.prepare.features")
        tables.append(_read_file(file, wanted))
    return pa.concat_tables(tables, promote_options="permissive")


def _read_file(file: SourceFile, wanted: list[str]) -> pa.Table:
    if file.format == "parquet":
        return pq.read_table(file.path, columns=wanted)
    if file.format != "csv":
        raise UserError(f"{file.path}: a table of rows is Parquet or CSV, not {file.format}")
    names = wanted if file.has_header else file.columns
    types = dict.fromkeys(names, pa.string())
    with open_raw(file.path, [file.path.name]) as stream:
        batches = list(
            iter_csv(stream, file.path, types, header=file.has_header, delimiter=file.delimiter)
        )
    return pa.Table.from_batches(batches).select(wanted)


def _split(config: TableConfig, table: pa.Table) -> dict[str, pa.Table]:
    """Cuts a table by its order in time, or by a hash of the row's number."""
    size = len(table)
    if config.method == "time":
        order = pc.sort_indices(table, sort_keys=[(config.time, "ascending")]).to_numpy()
    else:
        order = np.argsort(hash_uniform(config.seed, np.arange(size)), kind="stable")
    ends = np.round(size * np.cumsum([1 - config.valid_share - config.test_share,
                                      config.valid_share])).astype(int)  # fmt: skip
    rows = np.split(order, ends)
    return {
        part: table.take(pa.array(np.sort(of_part) if config.method == "rows" else of_part))
        for part, of_part in zip(PARTS, rows, strict=True)
    }


def _cut_valid(config: TableConfig, table: pa.Table) -> dict[str, pa.Table]:
    """Cuts validation out of a published training part, by a hash of the row's number."""
    draw = hash_uniform(config.seed, np.arange(len(table))) >> np.uint64(11)
    held = draw * 2.0**-53 < config.valid_share
    return {"train": table.filter(pa.array(~held)), "valid": table.filter(pa.array(held))}


def _check_labels(part: str, table: pa.Table, outcome: Outcome) -> None:
    if not len(table):
        raise UserError(f"the {part} part has no rows")
    labels, column = read_labels(table, outcome), outcome.column
    bad = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(bad):
        value = table.column(column)[int(bad[0])].as_py()
        raise UserError(
            f"the {part} part: column {column!r} ({_KEY}.label) is {value!r} in row {bad[0] + 1}; "
            "a label is 0 or 1"
        )
    if labels.min() == labels.max():
        which = f"; yes = {outcome.yes!r}" * bool(outcome.yes)
        raise UserError(
            f"the {part} part has labels of one kind only ({column!r}: {labels[0]:g}){which}"
        )
