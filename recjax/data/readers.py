"""Source files under our column names: what events, catalogue, users and graph share as readers.

`open_mapped` scans one file (sources.py, scans.py) and renames its columns; the column expressions
turn ids, numbers and texts of any type into ours. Everything here runs on the embedded engine.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from recjax.data.engine import Engine, quote_name
from recjax.data.scans import LINE, ROW, scan
from recjax.data.sources import SourceFile

Fault = tuple[ir.BooleanValue, str]  # where a row is bad, and the reason
BROKEN_LINE = "line is not a JSON object"


def open_mapped(engine: Engine, file: SourceFile, mapped: Mapping[str, str]) -> ir.Table:
    """Returns the rows of `file`: int64 `row` (from 1), then our names with the file's own types.

    Args:
        engine: the table engine.
        file: a described file.
        mapped: our name to the file's column; all of them present.
    """
    schema = {"row": "int64"} | {ours: file.types[theirs] for ours, theirs in mapped.items()}
    fields = [f"{ROW} AS row"]
    fields += [f"{quote_name(theirs)} AS {quote_name(ours)}" for ours, theirs in mapped.items()]
    if file.format == "jsonl":
        schema[LINE] = "string"
        fields.append(LINE)
    return engine.query(f"SELECT {', '.join(fields)} FROM ({scan(file)})", schema)


def sample(engine: Engine, raw: ir.Table, name: str, num_values: int = 10_000) -> list[Any]:
    """Returns the first values of a column that are not null (and, as text, not empty)."""
    column = raw.select(name).filter(raw[name].notnull()).limit(num_values)
    values = [row[name] for row in engine.rows(column)]
    return [value for value in values if str(value).strip()]


def as_id(column: ir.Column) -> ir.StringColumn:
    """Returns an id column as text; whole floats lose their ".0", empty and NaN become null."""
    if column.type().is_floating():
        number = column.nullif(float("nan"))
        whole = number == number.round()
        return ibis.ifelse(whole, number.cast("int64").cast("string"), number.cast("string"))
    return as_text(column)


def as_text(column: ir.Column) -> ir.StringColumn:
    """Returns a column as text without white space around it; empty becomes null."""
    return column.cast("string").strip().nullif("")


def as_number(column: ir.Column, kind: str) -> tuple[ir.NumericColumn, ir.BooleanColumn]:
    """Returns a column as numbers of Ibis type `kind`, and where it holds something else."""
    text_or_number = as_text(column) if column.type().is_string() else column
    number = text_or_number.try_cast("float64").nullif(float("nan"))
    return number.try_cast(kind), text_or_number.notnull() & number.try_cast(kind).isnull()


def first_reason(faults: Sequence[Fault]) -> ir.StringValue:
    """Returns the reason of the first fault that a row has; null for a good row."""
    if not faults:
        return ibis.null("string")
    return ibis.cases(*faults, else_=ibis.null("string"))


def row_values(raw: ir.Table, mapped: Mapping[str, str]) -> ir.StringValue:
    """Returns each row as JSON text under the file's own column names."""
    values: dict[str, ir.Value] = {theirs: raw[ours] for ours, theirs in mapped.items()}
    if LINE in raw.columns:
        return ibis.ifelse(raw[LINE].notnull(), _json({"line": raw[LINE]}), _json(values))
    return _json(values)


def broken_line(raw: ir.Table) -> list[Fault]:
    """Returns the fault of JSON lines that hold no object; nothing for other formats."""
    return [(raw[LINE].notnull(), BROKEN_LINE)] if LINE in raw.columns else []


def _json(values: Mapping[str, ir.Value]) -> ir.StringValue:
    return ibis.struct(dict(values)).cast("json").cast("string")
