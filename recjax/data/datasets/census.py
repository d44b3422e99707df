"""UCI Adult (census income) as a labelled table: the small set on which multi-task heads compare.

Validation is cut out of the published training part. Called by `recjax.data.row_tables`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.datasets.raw_files import iter_csv, open_raw
from recjax.errors import UserError

COLUMNS = (
    "age", "workclass", "weight", "education", "education_years", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours", "country", "income",
)  # fmt: skip
_FILES = {"train": ["adult.data"], "test": ["adult.test"]}


def read_census(folder: Path) -> dict[str, pa.Table]:
    """Returns the parts train and test; columns are text, "?" (unknown) is null.

    Args:
        folder: holds adult.data and adult.test, gzipped or not.

    Raises:
        UserError: if a file is missing or does not have these columns.

    Reference:
        Becker and Kohavi (1996), "Adult", UCI Machine Learning Repository.
    """
    return {part: _read(folder, names) for part, names in _FILES.items()}


def _read(folder: Path, names: list[str]) -> pa.Table:
    types = dict.fromkeys(COLUMNS, pa.string())
    with open_raw(folder, names) as stream:
        batches = list(iter_csv(stream, folder / names[0], types, header=False, delimiter=","))
    table = pa.Table.from_batches(batches)
    columns = {name: _tidy(table.column(name)) for name in COLUMNS}
    if not len(table) or set(pc.unique(columns["income"]).to_pylist()) != {"<=50K", ">50K"}:
        raise UserError(f"{folder}: {names[0]} is not the census table: no income of two kinds")
    return pa.table(columns)


def _tidy(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trims spaces and the full stop that ends lines of the test file."""
    text = pc.utf8_rtrim(pc.utf8_trim_whitespace(column), ".")
    return pc.if_else(pc.equal(text, "?"), None, text)
