"""Finding and opening an original file: as it is, in a folder, gzipped, or inside a zip archive."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.csv as pacsv

from recjax.errors import UserError

BLOCK_BYTES = 8 << 20  # of text parsed at a time


@contextmanager
def open_raw(path: Path, names: Sequence[str]) -> Iterator[IO[bytes]]:
    """Opens a file for reading bytes, unpacked.

    Args:
        path: the file itself (any name; gzip and zip are recognised by content), a zip archive, or
            a folder.
        names: what the wanted file is called in a folder or archive, best first; there it may also
            be gzipped.

    Raises:
        UserError: if the wanted file is not in the folder or archive.
    """
    if path.is_dir():
        found = _pick([p for p in path.rglob("*") if p.is_file()], names)
        if found is None:
            raise UserError(f"{path}: no {' or '.join(names)} in this folder")
        path = found
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04" and not _is_workbook(path):
        with zipfile.ZipFile(path) as archive:
            member = _pick([Path(name) for name in archive.namelist()], names)
            if member is None:
                raise UserError(f"{path}: no {' or '.join(names)} in this archive")
            with archive.open(member.as_posix()) as stream:
                yield stream
    elif head[:2] == b"\x1f\x8b":
        with gzip.open(path, "rb") as unpacked:
            yield cast(IO[bytes], unpacked)
    else:
        with path.open("rb") as plain:
            yield plain


def _pick(paths: Sequence[Path], names: Sequence[str]) -> Path | None:
    for name in names:
        for path in sorted(paths):
            if path.name in (name, f"{name}.gz"):
                return path
    return None


def _is_workbook(path: Path) -> bool:
    """An Excel workbook is a zip archive, too; it is a file of its own here."""
    with zipfile.ZipFile(path) as archive:
        return "[Content_Types].xml" in archive.namelist()


def has_raw(path: Path, names: Sequence[str]) -> bool:
    """Says whether a folder or archive holds one of the names; False for a plain file."""
    if path.is_dir():
        return _pick([p for p in path.rglob("*") if p.is_file()], names) is not None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _pick([Path(name) for name in archive.namelist()], names) is not None
    return False


def iter_csv(
    stream: IO[bytes],
    path: Path,
    types: Mapping[str, pa.DataType],
    *,
    header: bool = False,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a delimited stream in batches.

    Args:
        stream: bytes.
        path: named in errors.
        types: column names and types; without a header, in the order of the file.
        header: whether the first row names the columns (then only those of `types` are read).
        delimiter: one character.
        encoding: of the text.

    Raises:
        UserError: if a row does not parse.
    """
    names = list(types)
    read = pacsv.ReadOptions(
        column_names=None if header else names, block_size=BLOCK_BYTES, encoding=encoding
    )
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=names, strings_can_be_null=True, null_values=[""]
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=header)
    try:
        yield from pacsv.open_csv(stream, read, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise UserError(f"{path}: {error}") from error
