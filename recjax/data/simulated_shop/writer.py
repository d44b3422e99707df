"""Writes a simulated shop to disk as Parquet.

Here: streaming, temporary names, renaming. Not here: what the tables hold. Called by
`SimulatedShop.write`.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("events", "impressions", "users", "catalogue", "graph")


@contextlib.contextmanager
def files_that_appear_whole(folder: Path) -> Iterator[dict[str, Path]]:
    """Lends temporary paths by name and gives them their names when the body ends well."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = {name: folder / f".{name}.parquet.partial" for name in NAMES}
    try:
        yield beside
        for name, path in beside.items():
            os.replace(path, folder / f"{name}.parquet")
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def write_streams(
    paths: Mapping[str, Path],
    schemas: Mapping[str, pa.Schema],
    blocks: Iterable[Mapping[str, pa.RecordBatch]],
) -> None:
    """Writes several files at once, one row group per block.

    Args:
        paths: where, by name.
        schemas: what, by name.
        blocks: the batches of one block of users, by name.
    """
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(pq.ParquetWriter(paths[name], schema))
            for name, schema in schemas.items()
        }
        for batches in blocks:
            for name, writer in writers.items():
                writer.write_batch(batches[name])
