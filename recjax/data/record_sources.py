"""Random access to example records: opening, caching, joining and limiting sources.

A source has `len`, `[i]` and `__getitems__(indices)` and gives records as dicts of numpy arrays.
Writing is in `records.py`; order, batches and padding are in `loading.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from recjax.data.records import SCHEMAS, SPLITS, VERSION, Record, Schema, decode_record
from recjax.errors import UserError

_RECORD_OVERHEAD_BYTES = 600  # dict, keys and scalars of one decoded record
_ARRAY_OVERHEAD_BYTES = 150  # numpy header and the bytes object behind it


class Source(Protocol):
    """What the loader reads from."""

    def __len__(self) -> int:
        """Returns the number of records."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Returns one decoded record."""
        ...

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        """Returns the records of the indices, in their order."""
        ...


class ExampleSource:
    """Decoded records of a sequence of serialised ones."""

    def __init__(self, serialised: Sequence[bytes], schema: Schema) -> None:
        self._serialised = serialised
        self._schema = schema

    def __len__(self) -> int:
        return len(self._serialised)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return decode_record(self._schema, self._serialised[int(index)])

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        keys = [int(i) for i in indices]
        if not keys:
            return []
        get_many = getattr(self._serialised, "__getitems__", None)
        rows = get_many(keys) if get_many else [self._serialised[i] for i in keys]
        return [decode_record(self._schema, row) for row in rows]


def open_examples(
    folder: str | Path, name: str, split: str, schema: Schema | None = None
) -> ExampleSource:
    """Opens a split written by `ExampleWriter`; a split without records has length 0.

    Args:
        folder: the folder that holds `NAME/1.0.0`; it may have been moved since writing.
        name: "sequences", "next_item" or "click".
        split: "train", "valid" or "test".
        schema: fields; by default those of `name`.

    Raises:
        UserError: if the data set is not there or was not written to the end.
        ValueError: if the name or the split is unknown.
    """
    if schema is None and name not in SCHEMAS:
        raise ValueError(f"unknown examples {name!r}; there are {sorted(SCHEMAS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {SPLITS}")
    schema = SCHEMAS[name] if schema is None else schema
    path = Path(folder) / name / VERSION
    if not (path / "dataset_info.json").exists():
        raise UserError(f"no {name} examples in {path}: run the stage that writes them first")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    if split not in builder.info.splits:
        return ExampleSource([], schema)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    return ExampleSource(builder.as_data_source(split=split, deserialize_method=raw), schema)


class ListSource:
    """Records held in a list, for tests and for sets made on the fly."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return self._records[index]

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        return [self._records[int(i)] for i in indices]


class CachedSource:
    """Keeps decoded records in memory up to a number of bytes; the rest is decoded each time.

    Decoding a record (about 30 us) costs more than its share of a step on a small model.
    """

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._cache: dict[int, Record] = {}
        self.num_bytes = 0  # estimate of the memory in use

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        keys = [int(i) for i in indices]
        missing = [key for key in keys if key not in self._cache]
        if not missing:
            return [self._cache[key] for key in keys]
        fresh = dict(zip(missing, self._source.__getitems__(missing), strict=True))
        records = [fresh[key] if key in fresh else self._cache[key] for key in keys]
        for key, record in fresh.items():
            size = _record_bytes(record)
            if self.num_bytes + size > self._max_bytes:
                break
            self._cache[key] = record
            self.num_bytes += size
        return records


def _record_bytes(record: Record) -> int:
    arrays = [value for value in record.values() if isinstance(value, np.ndarray)]
    payload = sum(array.nbytes for array in arrays)
    return _RECORD_OVERHEAD_BYTES + _ARRAY_OVERHEAD_BYTES * len(arrays) + payload


class ConcatenatedSource:
    """Several sources one after another: real users, then the draws of a strategy, and so on."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._ends = np.cumsum([len(s) for s in self._sources], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Record:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        keys = np.fromiter(indices, dtype=np.int64)
        if len(keys) and not (0 <= keys.min() and keys.max() < len(self)):
            raise IndexError(f"records {keys.min()}..{keys.max()} of {len(self)}")
        which = np.searchsorted(self._ends, keys, side="right")
        records: list[Record] = [{}] * len(keys)
        for number in np.unique(which):
            places = np.flatnonzero(which == number)
            start = self._ends[number] - len(self._sources[number])
            found = self._sources[number].__getitems__((keys[places] - start).tolist())
            for place, record in zip(places, found, strict=True):
                records[place] = record
        return records


class LimitedSource:
    """A fixed random subset of a source, in its order; the whole source when it is small enough.

    Args:
        source: what to take from.
        limit: most records, 0 = all.
        seed: picks the subset.
    """

    def __init__(self, source: Source, limit: int, seed: int = 0) -> None:
        self._source = source
        size = len(source)
        keys = np.arange(size)
        if 0 < limit < size:
            keys = np.sort(np.random.default_rng([seed]).choice(size, limit, replace=False))
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._keys[index])]

    def __getitems__(self, indices: Iterable[int]) -> list[Record]:
        return self._source.__getitems__([int(self._keys[int(i)]) for i in indices])
