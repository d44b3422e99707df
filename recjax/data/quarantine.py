"""Rows that cannot be used: kept with their reason, counted, fatal only above a stated share.

Readers add to it; prepare_log.py writes it as quarantine.parquet. Rows that cleaning takes out
(repeats, bots, ...) were readable and are counted in the profile, not here.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.engine import Engine, clear_errors
from recjax.errors import UserError

SCHEMA = pa.schema(
    {"source": pa.string(), "row": pa.int64(), "reason": pa.string(), "values": pa.string()}
)
_MOST_REASONS = 3  # told in one message


@dataclasses.dataclass(frozen=True)
class BadRow:
    """One row that cannot be used: number in its file (from 1), reason, values as JSON."""

    row: int
    reason: str
    values: str


class Quarantine:
    """Collects bad rows file by file in a scratch file; memory does not grow with their number."""

    def __init__(self, engine: Engine, max_share: float) -> None:
        """Starts empty; `max_share` is config.prepare.max_quarantine_share."""
        self._engine = engine
        self._path = engine.scratch / "quarantine.parquet"
        with clear_errors(str(self._path)):
            self._writer = pq.ParquetWriter(self._path, SCHEMA)
        self._max_share = max_share
        self.counts: Counter[str] = Counter()  # reason: rows
        self._here: Counter[str] = Counter()  # the same since the last check
        self._examples: dict[str, tuple[str, BadRow]] = {}

    def add_table(self, source: Path, bad: ir.Table) -> None:
        """Adds the rows of `bad` (row, reason, values) of one file, streamed."""
        columns = bad.select("row", "reason", "values").order_by("row")
        for batch in self._engine.batches(columns, "bad"):
            self._add(source, pa.Table.from_batches([batch]))

    def add_rows_of(self, source: str, bad: ir.Table, reason: str) -> None:
        """Adds the rows of `bad` (row, values), all for one reason, streamed."""
        self.add_table(Path(source), bad.mutate(reason=ibis.literal(reason)))

    def add_rows(self, source: Path, bad: list[BadRow]) -> None:
        """Adds rows of one file."""
        if bad:
            self._add(source, pa.Table.from_pylist([dataclasses.asdict(row) for row in bad]))

    def check(self, what: str, num_rows: int, hints: Callable[[], Mapping[str, str]]) -> None:
        """Ends a source: fatal if too many of its rows are bad.

        Args:
            what: the source, as messages name it.
            num_rows: all its rows, the bad ones included.
            hints: returns reason to what would be right; called only when fatal.

        Raises:
            UserError: if more than the stated share of the rows is bad, or all of them are.
        """
        here, self._here = self._here, Counter()
        examples, self._examples = self._examples, {}
        num_bad = sum(here.values())
        if not num_bad or (num_bad <= self._max_share * num_rows and num_bad < num_rows):
            return
        lines = [
            f"{num_bad} of {num_rows} rows of {what} cannot be used ({num_bad / num_rows:.1%}; "
            f"config.prepare.max_quarantine_share allows {self._max_share:.1%}):"
        ]
        advice = hints()
        for reason, count in here.most_common(_MOST_REASONS):
            source, bad = examples[reason]
            lines.append(f"  {count} x {reason}, first {source} row {bad.row}: {bad.values[:200]}")
            if reason in advice:
                lines.append(f"      {advice[reason]}")
        raise UserError("\n".join(lines))

    def write(self, path: Path) -> dict[str, int]:
        """Closes the file, moves it to `path`, and returns {reason: rows}."""
        with clear_errors(str(path)):
            self._writer.close()
            os.replace(self._path, path)
        return dict(sorted(self.counts.items()))

    def _add(self, source: Path, rows: pa.Table) -> None:
        named = rows.append_column("source", pa.array([str(source)] * len(rows), pa.string()))
        with clear_errors(str(self._path)):
            self._writer.write_table(named.select(SCHEMA.names).cast(SCHEMA))
        reasons = rows.column("reason").to_pylist()
        self.counts.update(reasons)
        self._here.update(reasons)
        for reason in set(reasons) - set(self._examples):
            first = rows.slice(reasons.index(reason), 1).to_pylist()[0]
            self._examples[reason] = (str(source), BadRow(**first))
