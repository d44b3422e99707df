"""SQL that scans one source file, each row with its number, for the embedded engine.

A row is counted from 1 in its file, a header line not counted; in a sequence file it is the line.
Called by readers.py and check.py. What the columns mean is not known here.
"""

from recjax.data.engine import quote, quote_name
from recjax.data.sources import SourceFile

ROW = "__row"  # the row number's column; a file may well have a column "row" of its own
LINE = "__line"  # JSON lines: the text of a line that is no object, else null


def scan(file: SourceFile) -> str:
    """Returns SQL for all rows of `file` with the column `ROW`, for the embedded engine."""
    if file.format == "parquet":
        reader = f"read_parquet({quote(str(file.path))}, file_row_number = true)"
        return f"SELECT *, file_row_number + 1 AS {ROW} FROM {reader}"
    if file.format == "csv":
        return f"SELECT *, row_number() OVER () AS {ROW} FROM {_csv_reader(file)}"
    return _scan_jsonl(file) if file.format == "jsonl" else _scan_sequences(file)


def _csv_reader(file: SourceFile) -> str:
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in file.columns)
    return (
        f"read_csv({quote(str(file.path))}, columns = {{{columns}}}, header = {file.has_header}, "
        f"delim = {quote(file.delimiter)}, quote = '\"', escape = '\"', auto_detect = false, "
        "ignore_errors = true, store_rejects = true, rejects_limit = 0)"
    )


def _scan_lines(file: SourceFile) -> str:
    """Every line as it is, in `__text`: a delimiter and a quote that no text holds."""
    return (
        f"SELECT row_number() OVER () AS {ROW}, __text FROM read_csv({quote(str(file.path))}, "
        "columns = {'__text': 'VARCHAR'}, header = false, auto_detect = false, delim = '\x01', "
        "quote = '', escape = '', null_padding = true, strict_mode = false)"
    )


def _scan_jsonl(file: SourceFile) -> str:
    fields = ", ".join(
        f"json_extract_string(__object, {quote('/' + _pointer(name))}) AS {quote_name(name)}"
        for name in file.columns
    )
    return (
        f"SELECT {ROW}, {fields}, CASE WHEN __object IS NULL THEN __text END AS {LINE} "
        "FROM (SELECT *, CASE WHEN json_valid(__text) AND json_type(__text) = 'OBJECT' THEN __text "
        f"END AS __object FROM ({_scan_lines(file)}) WHERE __text IS NOT NULL)"
    )


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _scan_sequences(file: SourceFile) -> str:
    """User and items of each line; the time is the item's place in its line."""
    return (
        f"SELECT {ROW}, words[1] AS user_id, "
        "unnest(CASE WHEN len(words) > 1 THEN words[2:] ELSE [NULL] END) AS item_id, "
        "unnest(range(greatest(len(words) - 1, 1))) AS timestamp "
        f"FROM (SELECT {ROW}, regexp_split_to_array(trim(__text, ' \t\r'), '\\s+') AS words "
        f"FROM ({_scan_lines(file)}) WHERE trim(__text, ' \t\r') <> '')"
    )
