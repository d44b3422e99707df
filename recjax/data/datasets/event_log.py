"""What all data sets share: a TFDS builder whose examples are blocks of behaviour-log rows.

A subclass says where its file comes from and how to read it as record batches; this module stores
them as ArrayRecord without TensorFlow and gives them back. One example holds up to a thousand rows,
because one example a row costs fifty times as much. Called by the prepare stage for
`data.source = "tfds"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds

from recjax.data.datasets.log_blocks import (
    EVENT_SCHEMA,
    REQUIRED_COLUMNS,
    block_schema,
    decode_blocks,
    encode_block,
)
from recjax.data.record_sources import ExampleSource
from recjax.data.records import (
    Record,
    SplitWriter,
    fresh_partial,
    replace_folder,
    tfds_features,
)
from recjax.errors import UserError

ROWS_PER_EXAMPLE = 1024
EXAMPLES_PER_BATCH = 64  # blocks joined into one record batch when reading


class EventLogBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # TFDS is untyped here
):
    """A behaviour log as a TFDS data set with one split, "train".

    Subclasses set the class attributes and implement `read_events`; those with item attributes also
    implement `read_catalogue`.

    Args:
        path: file or folder already on disk; "" downloads from URL.
        **kwargs: data_dir, config, ... of tfds.core.DatasetBuilder.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL: ClassVar[str] = ""
    HOMEPAGE: ClassVar[str] = ""
    DESCRIPTION: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""
    url_infos: ClassVar[None] = None  # no checksums: TFDS would look for them in its own package
    COLUMNS: ClassVar[tuple[str, ...]] = ()  # beyond REQUIRED_COLUMNS, names of EVENT_SCHEMA

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Our names stay out of the registry of TFDS: importing has no effect on other programs.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(self, *, path: str | Path = "", **kwargs: Any) -> None:
        self._path = str(path)
        super().__init__(file_format="array_record", **kwargs)

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the log, with REQUIRED_COLUMNS and COLUMNS in types of EVENT_SCHEMA."""
        raise NotImplementedError

    def read_catalogue(self, path: Path) -> pa.Table | None:
        """Returns item_id and any of title, category, brand, price; None where unknown."""
        del path
        return None

    @property
    def url(self) -> str:
        """Where the original file is."""
        return self.URL

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the log."""
        return REQUIRED_COLUMNS + self.COLUMNS

    @property
    def catalogue_path(self) -> Path:
        """The catalogue of a prepared data set; the file is absent where there is none."""
        return Path(self.data_dir) / "catalogue.parquet"

    @property
    def origin(self) -> str:
        """What the data set is built from."""
        return str(Path(self._path).resolve()) if self._path else self.url

    def check_origin(self) -> None:
        """Refuses a data_dir that holds this data set built from something else.

        Raises:
            UserError: naming both origins.
        """
        built_from = Path(self.data_dir) / "origin.json"
        if not built_from.exists():
            return
        origin = json.loads(built_from.read_text())["origin"]
        if origin != self.origin:
            raise UserError(
                f"{self.data_dir} was built from {origin}, not from {self.origin}: use another "
                "folder or remove it"
            )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Prepares the data set, silently; downloads lie beside it in data_dir/downloads."""
        tfds.disable_progress_bar()
        kwargs.setdefault("download_dir", str(Path(self._data_dir_root) / "downloads"))
        super().download_and_prepare(**kwargs)

    def event_batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the prepared log in its original order."""
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        serialised = self.as_data_source(split="train", deserialize_method=raw)
        source = ExampleSource(serialised, block_schema(self.columns))
        for start in range(0, len(source), EXAMPLES_PER_BATCH):
            stop = min(start + EXAMPLES_PER_BATCH, len(source))
            yield decode_blocks(source.__getitems__(range(start, stop)))

    def export(self, folder: Path) -> dict[str, Path]:
        """Writes the prepared log (and catalogue) as Parquet; see `export_dataset`."""
        partial = fresh_partial(folder)
        schema = pa.schema([EVENT_SCHEMA.field(name) for name in self.columns])
        with pq.ParquetWriter(partial / "events.parquet", schema) as writer:
            for batch in self.event_batches():
                writer.write_batch(batch)
        paths = {"events": folder / "events.parquet"}
        if self.catalogue_path.exists():
            pq.write_table(pq.read_table(self.catalogue_path), partial / "catalogue.parquet")
            paths["catalogue"] = folder / "catalogue.parquet"
        replace_folder(partial, folder)
        return paths

    def _log_download_bytes(self) -> None:
        """Says nothing; TFDS would print to stdout here and below."""

    def _log_download_done(self) -> None:
        """Says nothing."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds_features(block_schema(self.columns)),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            disable_shuffling=True,
        )

    def _source_path(self, dl_manager: Any) -> Path:
        if self._path:
            if not Path(self._path).exists():
                raise UserError(
                    f"data.path: {self._path} is missing; {self.name} is to be read from it"
                )
            return Path(self._path)
        try:
            return Path(dl_manager.download(self.url))
        except Exception as error:  # whatever the network library of TFDS raises
            raise UserError(
                f"cannot download {self.name} from {self.url}: {error}. Download it by hand and "
                "set data.path to the file"
            ) from error

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Record]]]:
        return {"train": self._generate_examples(self._source_path(dl_manager))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Record]]:
        count = 0
        for batch in self.read_events(path):
            for start in range(0, batch.num_rows, ROWS_PER_EXAMPLE):
                yield count, encode_block(batch.slice(start, ROWS_PER_EXAMPLE), self.columns)
                count += 1

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> list[Any]:
        """Streams the blocks in order; the writer of TFDS would sort them through TensorFlow."""
        del download_config
        path = self._source_path(dl_manager)
        folder = Path(self.data_dir)
        writer = SplitWriter(folder, self.name, "train", block_schema(self.columns))
        for _, block in self._generate_examples(path):
            writer.write(block)
        info = writer.finish()
        if info is None:
            raise UserError(f"{path}: no events of {self.name} in it")
        catalogue = self.read_catalogue(path)
        if catalogue is not None:
            pq.write_table(catalogue, folder / "catalogue.parquet")
        (folder / "origin.json").write_text(json.dumps({"origin": self.origin}))
        return [info]
