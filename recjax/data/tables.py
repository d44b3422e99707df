"""Source files as typed Parquet parts: good rows, and bad ones with reason and values.

What log, catalogue, users, graph and impressions share: each hands over how its columns are made
and which faults a row can have. Bad rows also go to quarantine. Runs on the embedded engine.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data import readers
from recjax.data.engine import Engine, quote
from recjax.data.quarantine import BadRow, Quarantine
from recjax.data.readers import Fault
from recjax.data.sources import SourceFile

UNSPLIT_LINE = "line cannot be split into columns"
# Makes our columns of the raw ones, and the faults in the order in which they are reported.
MakeColumns = Callable[[ir.Table], tuple[dict[str, ir.Value], list[Fault]]]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Typed files.

    Attributes:
        folder: one Parquet file per source file: row int64 (grows through all files), the made
            columns, reason and values (both null for good rows).
        num_rows: rows of the source files, unreadable ones included.
    """

    folder: Path
    num_rows: int

    def good_rows(self, engine: Engine) -> ir.Table:
        """Returns the rows that can be used, on the main backend."""
        return _good(engine.read(self.folder))

    def good_rows_embedded(self, engine: Engine) -> ir.Table:
        """Returns the rows that can be used, on the embedded engine."""
        return _good(engine.read_embedded(self.folder))


def _good(rows: ir.Table) -> ir.Table:
    return rows.filter(rows.reason.isnull()).drop("reason", "values")


def read_parts(
    engine: Engine,
    files: Iterable[tuple[SourceFile, Mapping[str, str]]],
    make: MakeColumns,
    quarantine: Quarantine,
    name: str,
) -> Parts:
    """Types every file into a scratch folder; the caller checks the quarantine afterwards.

    Args:
        engine: the table engine.
        files: described files, each with {our name: its column}.
        make: makes our columns and faults of the mapped ones.
        quarantine: gets the bad rows, numbered within their file.
        name: of the scratch folder.
    """
    folder = engine.scratch / name
    folder.mkdir()
    last_row = num_rows = 0
    for number, (file, mapped) in enumerate(files):
        part = folder / f"part-{number:05d}.parquet"
        typed = typed_rows(readers.open_mapped(engine, file, mapped), mapped, make)
        engine.write(typed.mutate(row=typed.row + last_row), part)
        rejected = _rejected_lines(engine, file) if file.format == "csv" else []
        if rejected:
            part = _renumber(engine, part, [bad.row + last_row for bad in rejected])
        num_rows += pq.read_metadata(part).num_rows + len(rejected)
        last_row = _quarantine_part(engine, file.path, part, rejected, quarantine, last_row)
    return Parts(folder, num_rows)


def typed_rows(raw: ir.Table, mapped: Mapping[str, str], make: MakeColumns) -> ir.Table:
    """Returns the made columns of `raw` with row, reason and values."""
    columns, faults = make(raw)
    reason = readers.first_reason([*readers.broken_line(raw), *faults])
    values = ibis.ifelse(reason.notnull(), readers.row_values(raw, mapped), ibis.null("string"))
    return raw.select(**{"row": raw.row} | columns | {"reason": reason, "values": values})


def _quarantine_part(
    engine: Engine,
    source: Path,
    part: Path,
    rejected: list[BadRow],
    quarantine: Quarantine,
    offset: int,
) -> int:
    """Puts the bad rows of one part into quarantine; returns its last row number."""
    quarantine.add_rows(source, rejected)
    rows = engine.read_embedded(part)
    bad = rows.filter(rows.reason.notnull())
    quarantine.add_table(source, bad.mutate(row=bad.row - offset))
    last_row = engine.rows(rows.aggregate(last=rows.row.max()))[0]["last"] or offset
    return max([last_row, *(bad_row.row + offset for bad_row in rejected)])


def _rejected_lines(engine: Engine, file: SourceFile) -> list[BadRow]:
    """Returns the lines of a CSV file that the scan just made could not split, in order."""
    lines = engine.fetch_all(
        "SELECT line, first(error_message), first(csv_line) FROM reject_errors "
        f"JOIN reject_scans USING (scan_id, file_id) WHERE file_path = {quote(str(file.path))} "
        "GROUP BY line ORDER BY line"
    )
    for table in ("reject_errors", "reject_scans"):
        engine.fetch_all(f"DELETE FROM {table}")
    header = int(file.has_header)
    return [
        BadRow(line - header, UNSPLIT_LINE, json.dumps({"line": text, "error": error}))
        for line, error, text in lines
    ]


def _renumber(engine: Engine, part: Path, rejected: list[int]) -> Path:
    """Counts rejected rows in (the scan numbered only what it could split); returns a new part."""
    # Scanned rows above this number lie behind the rejected row; of a run of them the last counts.
    shift = {row - place: place for place, row in enumerate(rejected, start=1)}
    shifts = pa.table({"after": list(shift), "shift": list(shift.values())})
    shifts_path, new_part = part.with_suffix(".shifts"), part.with_name(f"full-{part.name}")
    pq.write_table(shifts, shifts_path)
    schema = dict(engine.read_embedded(part).schema().items())
    rows = engine.query(
        "SELECT rows.* REPLACE (row + coalesce(shift, 0) AS row) "
        f"FROM read_parquet({quote(str(part))}) AS rows ASOF LEFT JOIN "
        f"read_parquet({quote(str(shifts_path))}) AS shifts ON rows.row > shifts.after",
        {name: str(kind) for name, kind in schema.items()},
    )
    engine.write(rows, new_part)
    part.unlink()
    return new_part
