"""Example records on disk: schemas, their bytes, and the writer.

Files are ArrayRecord in TFDS layout (`FOLDER/NAME/1.0.0/NAME-SPLIT.array_record-00000-of-00001`
beside dataset_info.json), so `tfds.builder_from_directory` opens them. Arrays are stored as raw
bytes (TFDS `encoding="bytes"`), which reads ten times faster than one integer at a time. What goes
into a record is decided in `examples.py`; `record_sources.py` reads them back.
TFDS is used for metadata and reading; records are streamed straight into shards, because the
shuffle buffer of TFDS needs TensorFlow once a split passes one gigabyte.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from recjax.errors import UserError

VERSION = "1.0.0"
SHARD_BYTES = 256 << 20  # a new shard begins after this many serialised bytes
# One record a group for random access; compressing such short groups saves a quarter of the disk
# and takes four times the time.
_WRITER_OPTIONS = "group_size:1,uncompressed"


class Field(NamedTuple):
    """One field of a record: its dtype ("text" for strings) and whether it is a 1-d array."""

    dtype: str
    is_array: bool = False


Schema = Mapping[str, Field]
Record = dict[str, Any]

_EVENTS: dict[str, Field] = {
    "user": Field("int32"),
    "items": Field("int32", True),
    "actions": Field("int32", True),
    "times": Field("int64", True),
    "sessions": Field("int32", True),
    "source": Field("int32"),
}
SCHEMAS: dict[str, Schema] = {
    "sequences": {**_EVENTS, "weight": Field("float32")},
    "next_item": {
        **_EVENTS,
        "seen": Field("int32", True),  # distinct items of the whole history, for masking
        "target_item": Field("int32"),
        "target_action": Field("int32"),
        "target_time": Field("int64"),
    },
    "click": {
        **_EVENTS,
        "item": Field("int32"),
        "time": Field("int64"),
        "position": Field("int32"),
        "label": Field("float32"),
        "propensity": Field("float32"),
        "weight": Field("float32"),
    },
}
SPLITS = ("train", "valid", "test")


def tfds_features(schema: Schema) -> Any:
    """Returns the TFDS FeaturesDict of a schema."""
    import tensorflow_datasets as tfds

    def feature(field: Field) -> Any:
        if field.dtype == "text":
            text = tfds.features.Text()
            return tfds.features.Sequence(text) if field.is_array else text
        dtype = np.dtype(field.dtype).type
        if field.is_array:
            return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes")
        return dtype

    return tfds.features.FeaturesDict({name: feature(f) for name, f in schema.items()})


def encode_record(schema: Schema, record: Mapping[str, Any]) -> bytes:
    """Returns the serialised tf.Example of a record, byte for byte reproducible.

    Raises:
        ValueError: if a field of the schema is missing, or an array field is not 1-d.
    """
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    feature, ints = tf_feature_pb2.Feature, tf_feature_pb2.Int64List
    encoded = {}
    for name, (dtype, is_array) in schema.items():
        if name not in record:
            raise ValueError(f"the record has no field {name!r}; it has {sorted(record)}")
        value = record[name]
        if dtype == "text":
            texts = [t.encode() for t in value] if is_array else [value.encode()]
            encoded[name] = feature(bytes_list=tf_feature_pb2.BytesList(value=texts))
        elif is_array:
            array = np.asarray(value, dtype=dtype)
            if array.ndim != 1:
                raise ValueError(f"field {name!r} must be 1-d, got shape {array.shape}")
            encoded[name] = feature(bytes_list=tf_feature_pb2.BytesList(value=(array.tobytes(),)))
        elif dtype.startswith("float"):
            encoded[name] = feature(float_list=tf_feature_pb2.FloatList(value=(float(value),)))
        else:
            encoded[name] = feature(int64_list=ints(value=(int(value),)))
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=encoded))
    return example.SerializeToString(deterministic=True)


def decode_record(schema: Schema, serialised: bytes) -> Record:
    """Returns the record of `encode_record`: numpy arrays (read-only), ints, floats and strings."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(serialised).features.feature
    record: Record = {}
    for name, (dtype, is_array) in schema.items():
        feature = features[name]
        if dtype == "text":
            texts = [t.decode() for t in feature.bytes_list.value]
            record[name] = texts if is_array else texts[0]
        elif is_array:
            record[name] = np.frombuffer(feature.bytes_list.value[0], dtype=dtype)
        elif dtype.startswith("float"):
            record[name] = feature.float_list.value[0]
        else:
            record[name] = feature.int64_list.value[0]
    return record


class SplitWriter:
    """Streams the records of one split into ArrayRecord shards, in the order given."""

    def __init__(self, folder: Path, name: str, split: str, schema: Schema) -> None:
        self._folder, self._name, self._split, self._schema = folder, name, split, schema
        self._writer: Any = None
        self._paths: list[Path] = []
        self._lengths: list[int] = []
        self._shard_bytes = 0
        self.num_bytes = 0

    @property
    def num_records(self) -> int:
        """Records written so far."""
        return sum(self._lengths)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record."""
        if self._writer is None:
            self._open_shard()
        serialised = encode_record(self._schema, record)
        self._call(self._writer.write, serialised)
        self._lengths[-1] += 1
        self._shard_bytes += len(serialised)
        self.num_bytes += len(serialised)
        if self._shard_bytes >= SHARD_BYTES:
            self.close_shard()

    def _open_shard(self) -> None:
        from array_record.python import array_record_module

        self._paths.append(self._folder / f"{self._name}-{self._split}.part{len(self._paths)}")
        self._lengths.append(0)
        self._shard_bytes = 0
        self._writer = self._call(
            array_record_module.ArrayRecordWriter, str(self._paths[-1]), _WRITER_OPTIONS
        )

    def _call(self, function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except (OSError, RuntimeError, ValueError) as error:  # array_record: one class per status
            raise UserError(f"cannot write examples into {self._folder}: {error}") from error

    def close_shard(self) -> None:
        """Ends the shard being written, if any."""
        if self._writer is not None:
            self._call(self._writer.close)
            self._writer = None

    def finish(self) -> Any | None:
        """Gives the shards their final names; returns the TFDS SplitInfo, None when empty."""
        self.close_shard()
        if not self._paths:
            return None
        from tensorflow_datasets.core import naming, splits

        template = naming.ShardedFileTemplate(
            data_dir=self._folder,
            dataset_name=self._name,
            split=self._split,
            filetype_suffix="array_record",
        )
        for index, path in enumerate(self._paths):
            final = template.sharded_filepath(shard_index=index, num_shards=len(self._paths))
            os.replace(path, os.fspath(final))
        return splits.SplitInfo(
            name=self._split,
            shard_lengths=self._lengths,
            num_bytes=self.num_bytes,
            filename_template=template,
        )


def replace_folder(partial: Path, final: Path) -> None:
    """Moves a finished folder to its place; what was there before is removed afterwards."""
    final.parent.mkdir(parents=True, exist_ok=True)
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(partial, final)
    shutil.rmtree(old, ignore_errors=True)


def fresh_partial(final: Path) -> Path:
    """Returns a new empty folder beside `final` to write into; leftovers of a crash are removed.

    Raises:
        UserError: if the folder cannot be made.
    """
    partial = final.with_name(f".{final.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write into {final.parent}: {error}") from error
    return partial


class ExampleWriter:
    """Writes one data set (`FOLDER/NAME/1.0.0`), which appears whole or not at all.

    Use it as a context manager; an exception inside leaves nothing behind.
    """

    def __init__(self, folder: str | Path, name: str, schema: Schema | None = None) -> None:
        self._final = Path(folder) / name
        self._name = name
        self._schema = SCHEMAS[name] if schema is None else schema
        self._partial = fresh_partial(self._final)
        self._version_folder = self._partial / VERSION
        self._version_folder.mkdir()
        self._splits: dict[str, SplitWriter] = {}

    @property
    def num_records(self) -> dict[str, int]:
        """Records per split so far."""
        return {split: writer.num_records for split, writer in self._splits.items()}

    def write(self, split: str, record: Mapping[str, Any]) -> None:
        """Appends a record to a split."""
        if split not in self._splits:
            self._splits[split] = SplitWriter(self._version_folder, self._name, split, self._schema)
        self._splits[split].write(record)

    def close(self) -> None:
        """Writes the metadata and moves the data set to its place."""
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import dataset_info

        infos = [self._splits[split].finish() for split in sorted(self._splits)]
        info = tfds.core.DatasetInfo(
            builder=dataset_info.DatasetIdentity(
                name=self._name,
                version=tfds.core.Version(VERSION),
                data_dir=str(self._version_folder),
                module_name=__name__,
            ),
            description=f"recjax examples: {self._name}.",
            features=tfds_features(self._schema),
            split_dict=tfds.core.splits.SplitDict([i for i in infos if i is not None]),
            disable_shuffling=True,
        )
        info.set_file_format("array_record")
        info.write_to_directory(self._version_folder)
        replace_folder(self._partial, self._final)

    def abandon(self) -> None:
        """Closes the files and removes what was written."""
        for writer in self._splits.values():
            with contextlib.suppress(UserError):  # closing flushes; a full disk fails again
                writer.close_shard()
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> ExampleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
