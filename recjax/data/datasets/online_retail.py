"""UCI Online Retail: every invoice line of a gift retailer, December 2010 to December 2011."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recjax.data.datasets.event_log import EventLogBuilder
from recjax.data.datasets.raw_files import iter_csv, open_raw
from recjax.errors import UserError

_COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice",
            "CustomerID")  # fmt: skip
_NAMES = [
    "invoices.parquet", "online_retail.parquet", "Online Retail.csv", "OnlineRetail.csv",
    "online_retail.csv", "Online Retail.xlsx",
]  # fmt: skip
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%S")
_WORKBOOK_ROWS = 1 << 15  # per record batch


class OnlineRetail(EventLogBuilder):
    """Invoice lines as events "buy" with unit price; an invoice is a session.

    Left out: cancellations (numbers with C, quantities below 1), lines without customer, and stock
    codes without a digit (postage, bank charges). On disk: the original archive or workbook (needs
    openpyxl), or the same columns as CSV or Parquet.
    """

    name = "online_retail"
    URL = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/352/online+retail"
    DESCRIPTION = "All transactions of a UK-based online retailer of gifts in one year."
    CITATION = """@article{chen2012data,
      title={Data mining for the online retail industry: A case study of RFM model-based customer
             segmentation using data mining},
      author={Chen, Daqing and Sain, Sai Laing and Guo, Kun},
      journal={Journal of Database Marketing and Customer Strategy Management},
      volume={19}, number={3}, pages={197--208}, year={2012}}"""
    COLUMNS = ("session_id", "price")

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the purchases in the order of the file."""
        for kept in iter_purchases(path):
            yield pa.RecordBatch.from_pydict(
                {
                    "user_id": kept.column("CustomerID"),
                    "item_id": kept.column("StockCode"),
                    "action": pa.array(["buy"] * kept.num_rows, pa.string()),
                    "timestamp": kept.column("InvoiceDate"),
                    "session_id": kept.column("InvoiceNo"),
                    "price": kept.column("UnitPrice"),
                }
            )

    def read_catalogue(self, path: Path) -> pa.Table:
        """Returns the last description and price that each stock code was sold under."""
        last: dict[str, tuple[str | None, float | None]] = {}
        for kept in iter_purchases(path):
            columns = [
                kept.column(n).to_pylist() for n in ("StockCode", "Description", "UnitPrice")
            ]
            for code, title, price in zip(*columns, strict=True):
                old = last.get(code, (None, None))
                last[code] = (title.strip() if title else old[0], price or old[1])
        codes = sorted(last)
        return pa.table(
            {
                "item_id": pa.array(codes, pa.string()),
                "title": pa.array([last[code][0] for code in codes], pa.string()),
                "price": pa.array([last[code][1] for code in codes], pa.float32()),
            }
        )


def iter_purchases(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields the lines that are purchases of a known customer: texts, prices, int64 seconds.

    Raises:
        UserError: if the file or a column is missing, or a workbook cannot be read here.
    """
    for batch in _iter_lines(path):
        yield batch.filter(_is_purchase(batch))


def _is_purchase(batch: pa.RecordBatch) -> pa.Array:
    cancelled = pc.starts_with(batch.column("InvoiceNo"), "C")
    keep = pc.and_(pc.invert(cancelled), pc.greater(batch.column("Quantity"), 0))
    keep = pc.and_(keep, pc.match_substring_regex(batch.column("StockCode"), "[0-9]"))
    return pc.and_(keep, batch.column("CustomerID").is_valid()).fill_null(False)


def _iter_lines(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields invoice lines of any of the formats, with one set of types."""
    with open_raw(path, _NAMES) as stream:
        head = stream.read(4)
        stream.seek(0)
        if head == b"PAR1":
            with pq.ParquetFile(stream) as file:
                _check_columns(path, file.schema_arrow.names)
                yield from map(_typed, file.iter_batches(columns=list(_COLUMNS)))
        elif head == b"PK\x03\x04":
            yield from map(_typed, _iter_workbook(stream, path))
        else:
            types = {name: pa.string() for name in _COLUMNS}
            batches = iter_csv(stream, path, types, header=True, encoding=_encoding(stream))
            yield from map(_typed, batches)


def _encoding(stream: IO[bytes]) -> str:
    """Copies of the file are UTF-8 or, for its pound signs, Latin-1."""
    try:
        stream.read().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    finally:
        stream.seek(0)
    return "utf-8"


def _iter_workbook(stream: IO[bytes], path: Path) -> Iterator[pa.RecordBatch]:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"{path} is an Excel workbook: pip install openpyxl, or save it as CSV and set "
            "data.path to that"
        ) from error
    rows = openpyxl.load_workbook(stream, read_only=True).active.iter_rows(values_only=True)
    names = [str(name) for name in next(rows)]
    _check_columns(path, names)
    places = [names.index(name) for name in _COLUMNS]
    block: list[tuple] = []
    for row in rows:
        block.append(tuple(None if row[i] is None else str(row[i]) for i in places))
        if len(block) == _WORKBOOK_ROWS:
            yield _string_batch(block)
            block = []
    if block:
        yield _string_batch(block)


def _string_batch(rows: list[tuple]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_pydict(
        {n: pa.array(c, pa.string()) for n, c in zip(_COLUMNS, columns, strict=True)}
    )


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; it has {names}")


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the lines with texts, float32 prices and int64 seconds."""
    arrays = {}
    for name in _COLUMNS:
        column = batch.column(name)
        if name == "InvoiceDate":
            arrays[name] = _seconds(column)
        elif name in ("Quantity", "UnitPrice"):
            arrays[name] = column.cast(pa.float32())
        else:
            arrays[name] = pc.utf8_trim_whitespace(column.cast(pa.string()))
    # Some copies write customers as 17850.0.
    arrays["CustomerID"] = pc.replace_substring_regex(arrays["CustomerID"], r"\.0$", "")
    return pa.RecordBatch.from_pydict(arrays)


def _seconds(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    tried = []
    for time_format in _TIME_FORMATS:
        times = pc.strptime(column, format=time_format, unit="s", error_is_null=True)
        if times.null_count == column.null_count:
            return times.cast(pa.int64())
        tried.append((times.null_count, times))
    return min(tried, key=lambda pair: pair[0])[1].cast(pa.int64())
