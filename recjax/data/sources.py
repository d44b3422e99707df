"""Source files: which they are, their format and columns (Parquet, CSV, JSON lines, sequences).

Here live finding the files and naming their format and columns. Not here: the SQL that scans a file
(scans.py), and what the columns mean (events.py, catalogue.py, users.py and graph.py map them).
"""

import contextlib
import csv
import dataclasses
import difflib
import glob
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.errors import UserError

DELIMITERS = ("\t", "::", ",", ";", "|", " ")
SEQUENCE_COLUMNS = ("user_id", "item_id", "timestamp")
_ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_HEAD_BYTES = 1 << 16
_POSITIONAL = re.compile(r"column\d+")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file and how to scan it.

    Attributes:
        path: the file.
        format: "parquet", "csv", "jsonl" or "sequences".
        columns: its column names in order; a CSV file without header has column0, column1, ...
        types: Ibis type name by column ("string" throughout for text formats).
        delimiter: between the fields of a CSV file.
        has_header: whether the first line of a CSV file holds names.
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    types: dict[str, str]
    delimiter: str = ","
    has_header: bool = True


def find_files(path: str, key: str) -> list[Path]:
    """Returns the files that `path` names: a file, a glob, or a folder of Parquet files.

    Raises:
        UserError: if nothing is there, or a file is empty. `key` is the config key to name.
    """
    if not path:
        raise UserError(f"{key} is empty; give a file, a glob or a folder of Parquet files")
    folder = Path(path)
    if folder.is_dir():
        files = sorted(f for f in folder.rglob("*.parquet") if not f.name.startswith((".", "_")))
        wanted = (
            f"{path} is a folder without Parquet files; give the files as a glob, e.g. {path}/*.csv"
        )
    else:
        files = [folder] if folder.is_file() else [Path(name) for name in sorted(glob.glob(path))]
        wanted = f"no file matches {path}; give an existing file, glob or folder"
    if not files:
        raise UserError(f"{key}: {wanted}")
    for file in files:
        if file.stat().st_size == 0:
            raise UserError(f"{key}: {file} is empty (0 bytes)")
    return files


def describe(
    path: Path, format: str = "auto", delimiter: str = "auto", wanted: Iterable[str] = ()
) -> SourceFile:
    """Returns format and columns of a file from its first bytes.

    Args:
        path: the file; text may be compressed (.gz, .zst).
        format: one of settings.FORMATS; "auto" looks at the file.
        delimiter: of CSV; "auto" looks at the file.
        wanted: column names the caller will ask for; names like column3 say "no header line".

    Raises:
        UserError: if the file cannot be read as this format.
    """
    format = guess_format(path) if format == "auto" else format
    if format == "parquet":
        return _describe_parquet(path)
    lines = read_head(path)
    if not lines:
        raise UserError(f"{path} holds no line of text")
    if format == "jsonl":
        return _describe_jsonl(path, lines)
    if format == "sequences":
        types = {"user_id": "string", "item_id": "string", "timestamp": "int64"}
        return SourceFile(path, format, SEQUENCE_COLUMNS, types)
    delimiter = guess_delimiter(lines) if delimiter == "auto" else delimiter
    has_header = not any(_POSITIONAL.fullmatch(name) for name in wanted)
    names = split_line(lines[0], delimiter)
    names = _unique(names) if has_header else [f"column{i}" for i in range(len(names))]
    return SourceFile(
        path, "csv", tuple(names), dict.fromkeys(names, "string"), delimiter, has_header
    )


def require_columns(file: SourceFile, columns: dict[str, str], key: str) -> dict[str, str]:
    """Returns {our name: file's column} of the mapped columns, all of them present.

    Args:
        file: the described file.
        columns: our name to the file's column; "" means that the file has none.
        key: the config key of the mapping, named in messages.

    Raises:
        UserError: if a mapped column is missing; says which key names it and what the file has.
    """
    mapped = {ours: theirs for ours, theirs in columns.items() if theirs}
    for ours, theirs in mapped.items():
        if theirs not in file.columns:
            raise UserError(_missing_column(file, ours, theirs, key))
    return mapped


def require_all(
    file: SourceFile, columns: dict[str, str], needed: Iterable[str], key: str
) -> dict[str, str]:
    """Returns `require_columns`, after checking that no needed column is mapped to ''.

    Raises:
        UserError: if a needed one is, or a mapped column is missing.
    """
    for ours in needed:
        if not columns[ours]:
            raise UserError(f"{key}.{ours} is ''; {file.path} cannot be used without this column")
    return require_columns(file, columns, key)


def other_columns(file: SourceFile, mapped: dict[str, str], key: str) -> dict[str, str]:
    """Returns the columns of `file` that are not mapped, under their own names.

    Raises:
        UserError: if one of them has a name that another column is mapped to.
    """
    others = [name for name in file.columns if name not in mapped.values()]
    for name in others:
        if name in mapped:
            raise UserError(
                f"{file.path}: {key}.{name} maps {mapped[name]!r}, but the file also has a column "
                f"{name!r}; rename one of them"
            )
    return {name: name for name in others}


def describe_all(
    path: str, key: str, wanted: Iterable[str], delimiter: str = "auto"
) -> list[SourceFile]:
    """Returns `describe` of all files that `path` names."""
    wanted = tuple(wanted)
    return [describe(file, "auto", delimiter, wanted) for file in find_files(path, key)]


def _missing_column(file: SourceFile, ours: str, theirs: str, key: str) -> str:
    message = f"{file.path} has no column {theirs!r} ({key}.{ours}); "
    message += f"it has: {', '.join(file.columns[:30])}."
    close = difflib.get_close_matches(theirs, file.columns, n=1)
    if close:
        message += f" Perhaps {key}.{ours}={close[0]!r}?"
    if file.format == "csv" and any(_is_number(name) for name in file.columns):
        message += " Its first line looks like data: name columns column0, column1, ... instead."
    if file.format == "csv" and file.delimiter == " ":
        message += " If each line is a user and its items, set config.data.format='sequences'."
    return message + " Set the key to '' if there is none." * (ours not in ("user_id", "item_id"))


def read_head(path: Path) -> list[str]:
    """Returns the first lines (at most 64 KiB, whole lines) of a text file, decompressed."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    lines = head.decode("utf-8", errors="replace").removeprefix("\ufeff").splitlines()
    lines = lines[:-1] if len(head) == _HEAD_BYTES and len(lines) > 1 else lines
    return [line for line in lines if line.strip()]


def guess_format(path: Path) -> str:
    """Returns "parquet", "jsonl", "sequences" or "csv" from the ending or the first lines."""
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return "parquet"
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix in _ENDINGS:
        return _ENDINGS[plain.suffix]
    lines = read_head(path)
    if lines and lines[0].lstrip().startswith("{"):
        return "jsonl"
    return "sequences" if _looks_like_sequences(lines) else "csv"


def guess_delimiter(lines: list[str]) -> str:
    """Returns the delimiter that splits the first lines into the same number (> 1) of fields."""
    for delimiter in DELIMITERS:
        counts = {len(split_line(line, delimiter)) for line in lines[:20]}
        if len(counts) == 1 and counts.pop() > 1:
            return delimiter
    return max(DELIMITERS, key=lambda delimiter: lines[0].count(delimiter)) if lines else ","


def split_line(line: str, delimiter: str) -> list[str]:
    """Returns the fields of one CSV line; quotes are minded for one-letter delimiters."""
    fields = line.split(delimiter)
    if len(delimiter) == 1:
        with contextlib.suppress(csv.Error):  # rubbish stays split as it is
            fields = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    return [field.strip() for field in fields]


def _looks_like_sequences(lines: list[str]) -> bool:
    if any(mark in line for line in lines[:20] for mark in (",", ";", "|", "::", '"')):
        return False
    counts = {len(line.split()) for line in lines}
    return bool(counts) and min(counts) >= 2 and (len(counts) > 1 or counts == {2})


def _describe_parquet(path: Path) -> SourceFile:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from error
    types = {field.name: _ibis_type(field) for field in schema}
    return SourceFile(path, "parquet", tuple(types), types)


def _ibis_type(field: pa.Field) -> str:
    try:
        return str(ibis.Schema.from_pyarrow(pa.schema([field]))[field.name])
    except KeyError:
        return "string"  # a type that Ibis does not know, e.g. JSON


def _describe_jsonl(path: Path, lines: list[str]) -> SourceFile:
    names: dict[str, str] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        names |= dict.fromkeys(record, "string") if isinstance(record, dict) else {}
    if not names:
        raise UserError(
            f"{path} holds no JSON object in its first lines; one object a line is needed"
        )
    return SourceFile(path, "jsonl", tuple(names), names)


def _unique(names: list[str]) -> list[str]:
    """Gives empty and repeated header names a number, so that each column has its own."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        unique = name if name and name not in seen else f"{name or 'column'}_{place}"
        seen[unique] = place
    return list(seen)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
