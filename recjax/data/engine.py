"""The table engine: one Ibis backend with a memory limit and a scratch folder.

Files are always read and written by the embedded DuckDB; expressions run on the chosen backend
(DuckDB itself, or a Spark session). It knows nothing of events: the other modules of the room hand
expressions to it, prepare_log.py and check.py make it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.settings import EngineConfig
from recjax.errors import UserError

NUM_THREADS = 4  # more threads need more memory than the limit of a small machine gives
_SPARK_HINT = "install it with: pip install 'recjax[spark]' (and Java 17 or newer)"


class Engine:
    """An Ibis backend, its scratch folder, and the few things done with both.

    Use it as a context manager: scratch files go away at its end, also after an error.

    Attributes:
        embedded: DuckDB; reads source files and writes every final file.
        main: the backend that expressions run on; the embedded one or Spark.
        scratch: folder of intermediate Parquet files and of DuckDB's spilled blocks.
    """

    def __init__(self, config: EngineConfig, scratch: Path) -> None:
        """Opens the backend named in `config`; makes the folder `scratch`."""
        with clear_errors(f"folder {scratch}"):
            scratch.mkdir(parents=True, exist_ok=True)
        self.scratch = scratch
        self.embedded = _open_duckdb(config.memory_gib, scratch)
        self.main = open_spark() if config.backend == "spark" else self.embedded
        self._num_kept = 0

    def __enter__(self) -> "Engine":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes DuckDB and removes the scratch folder; a Spark session stays its owner's."""
        self.embedded.disconnect()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def is_spark(self) -> bool:
        """Whether expressions run on Spark."""
        return self.main is not self.embedded

    def query(self, sql: str, schema: dict[str, str]) -> ir.Table:
        """Returns the embedded engine's `sql` as a table; `schema` holds Ibis type names."""
        return self.embedded.sql(sql, schema=ibis.schema(schema))

    def fetch_all(self, sql: str) -> list[tuple[Any, ...]]:
        """Runs `sql` on the embedded engine and returns its (few) rows."""
        with clear_errors("the table engine"):
            return self.embedded.con.execute(sql).fetchall()

    def read(self, path: Path) -> ir.Table:
        """Returns a Parquet file, or a folder of them, as a table of the main backend."""
        return self.main.read_parquet(str(path)) if self.is_spark else self.read_embedded(path)

    def read_embedded(self, path: Path) -> ir.Table:
        """Returns a Parquet file, or a folder of them, as a table of the embedded engine."""
        first, pattern = path, path
        if path.is_dir():
            first, pattern = min(path.glob("*.parquet")), path / "*.parquet"
        schema = ibis.Schema.from_pyarrow(pq.read_schema(first))
        return self.embedded.sql(
            f"SELECT * FROM read_parquet({quote(str(pattern))})", schema=schema
        )

    def keep(self, table: ir.Table, name: str) -> ir.Table:
        """Runs `table`, stores its rows in scratch, and returns them as a table of its backend."""
        self._num_kept += 1
        path = self._scratch_path(name)
        with clear_errors(str(path)):
            if table.get_backend() is self.embedded:
                self._copy(table, path)
                return self.read_embedded(path)
            self.main.to_parquet_dir(table, str(path))
        return self.main.read_parquet(str(path))

    def hand_over(self, table: ir.Table, name: str) -> ir.Table:
        """Returns `table` of the embedded engine as a table of the main backend."""
        if not self.is_spark:
            return table
        self._num_kept += 1
        path = self._scratch_path(name)
        self._copy(table, path)
        return self.read(path)

    def store(self, rows: pa.Table, name: str) -> ir.Table:
        """Puts an Arrow table into scratch and returns it as a table of the embedded engine."""
        self._num_kept += 1
        path = self._scratch_path(name)
        with clear_errors(str(path)):
            pq.write_table(rows, path)
        return self.read_embedded(path)

    def write(
        self,
        table: ir.Table,
        path: Path,
        order_by: tuple[str, ...] = (),
        leave_out: tuple[str, ...] = (),
    ) -> int:
        """Writes `table` as one Parquet file, sorted, whole or not at all.

        Args:
            table: an expression of the main backend or of the embedded engine.
            path: the final file; a file already there is replaced at the end.
            order_by: columns that sort the rows; () leaves the order open.
            leave_out: columns that only serve the order.

        Returns:
            The number of rows written.

        Raises:
            UserError: if the disk is full, the folder cannot be written to, or memory runs out.
        """
        if table.get_backend() is not self.embedded:
            self.keep(table, path.stem)
            table = self.read_embedded(self._scratch_path(path.stem))
        order = ", ".join(f'"{name}"' for name in order_by)
        unfinished = path.with_name(path.name + ".unfinished")
        with clear_errors(str(path)):
            self._copy(table, unfinished, f" ORDER BY {order}" if order else "", leave_out)
            os.replace(unfinished, path)
        return pq.read_metadata(path).num_rows

    def batches(self, table: ir.Table, name: str) -> Iterator[pa.RecordBatch]:
        """Runs `table` of the embedded engine and streams its rows, by way of a scratch file."""
        self._num_kept += 1
        path = self._scratch_path(name)
        with clear_errors(str(path)):
            self._copy(table, path)
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches()
        path.unlink()

    def rows(self, table: ir.Table) -> list[dict[str, Any]]:
        """Runs `table` and returns its (few) rows."""
        with clear_errors("the table engine"):
            if table.get_backend() is self.embedded:
                return table.to_pyarrow().to_pylist()
            # Ibis would go by way of pandas, whose newest release PySpark does not know yet.
            found = start_spark().sql(self.main.compile(table)).collect()
            return [row.asDict(recursive=True) for row in found]

    def count(self, table: ir.Table) -> int:
        """Runs `table` and returns its number of rows."""
        return self.rows(table.aggregate(num=table.count()))[0]["num"]

    def _scratch_path(self, name: str) -> Path:
        return self.scratch / f"{self._num_kept:03d}_{name}.parquet"

    def _copy(
        self, table: ir.Table, path: Path, order: str = "", leave_out: tuple[str, ...] = ()
    ) -> None:
        sql = self.embedded.compile(table)
        columns = ", ".join(quote_name(name) for name in table.columns if name not in leave_out)
        self.embedded.con.execute(
            f"COPY (SELECT {columns} FROM ({sql}){order}) TO {quote(str(path))} (FORMAT parquet)"
        )


def quote(text: str) -> str:
    """Returns `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Returns `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _open_duckdb(memory_gib: float, scratch: Path) -> Any:
    backend = ibis.duckdb.connect()
    for setting in (
        f"memory_limit = '{memory_gib * 1024:.0f}MiB'",
        f"temp_directory = {quote(str(scratch / 'spill'))}",
        f"threads = {min(NUM_THREADS, os.cpu_count() or 1)}",
        # Order is kept by ORDER BY where it matters; keeping it everywhere costs memory.
        "preserve_insertion_order = false",
        "TimeZone = 'UTC'",
        "enable_progress_bar = false",
        "autoinstall_known_extensions = false",
    ):
        backend.con.execute(f"SET {setting}")
    return backend


def open_spark() -> Any:
    """Returns an Ibis backend on the Spark session of `start_spark`."""
    session = start_spark()  # first: it tells what to install, Ibis would only fail
    return ibis.pyspark.connect(session)


def start_spark() -> Any:
    """Returns the active Spark session, or a new one, its clock set to UTC.

    Raises:
        UserError: if PySpark is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError(f"config.prepare.backend='spark' needs PySpark; {_SPARK_HINT}") from error
    session = SparkSession.getActiveSession() or (
        SparkSession.builder.appName("recjax")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .getOrCreate()
    )
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


@contextlib.contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Turns a full disk, a closed folder or too little memory into one clear message."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UserError(
            f"{what}: the table engine ran out of memory or of room for spilled blocks; raise "
            f"config.prepare.memory_gib or free disk space ({_first_line(error)})"
        ) from error
    except (duckdb.IOException, OSError) as error:
        raise UserError(
            f"{what} cannot be read or written: {_first_line(error)}; check the path, its "
            "permissions and the free disk space"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
