"""The vocabulary of items: which string is which int32 id, special tokens first.

It holds the items of the training part and of the catalogue. Item ids in prepared files and batches
live in this space; attributes of items are in `items.py`, words of titles in `text.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjax.errors import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUM_SPECIALS = len(SPECIALS)


class Vocabulary:
    """Items in order; the item at place r has id r + NUM_SPECIALS.

    Args:
        item_ids: distinct strings.
        train_counts: int [number of items], events of the training part; 0 for items that only the
            catalogue knows.

    Raises:
        ValueError: if the two differ in length or an item occurs twice.

    Example:
        >>> vocabulary = Vocabulary.build({"b": 3, "a": 3, "c": 9}, ["d", "a"])
        >>> vocabulary.item_ids.to_pylist()
        ['c', 'a', 'b', 'd']
        >>> vocabulary.encode(["c", "never seen", "d"])
        array([5, 1, 8], dtype=int32)
    """

    def __init__(self, item_ids: Sequence[str] | pa.Array, train_counts: Sequence[int]) -> None:
        self.item_ids = pa.array(item_ids, pa.string())
        self.train_counts = np.asarray(train_counts, np.int64)
        if len(self.item_ids) != len(self.train_counts):
            raise ValueError(f"{len(self.item_ids)} items but {len(self.train_counts)} counts")
        if pc.count_distinct(self.item_ids).as_py() != len(self.item_ids):
            raise ValueError("an item occurs twice in the vocabulary")

    @classmethod
    def build(
        cls, train_counts: Mapping[str, int] | pa.Table, catalogue: Iterable[str] = ()
    ) -> Vocabulary:
        """Builds it from training counts and catalogue ids: by count, most first, then by id.

        Args:
            train_counts: item_id -> events in the training part, or a table with columns item_id
                and count.
            catalogue: further item ids; those already counted are not repeated.
        """
        if isinstance(train_counts, pa.Table):
            ids = train_counts["item_id"].cast(pa.string()).to_pylist()
            counts = dict(zip(ids, train_counts["count"].to_pylist(), strict=True))
        else:
            counts = dict(train_counts)
        for item in catalogue:
            counts.setdefault(item, 0)
        items = sorted(counts, key=lambda item: (-counts[item], item))
        return cls(items, [counts[item] for item in items])

    @property
    def num_items(self) -> int:
        """Items, specials not counted."""
        return len(self.item_ids)

    @property
    def vocab_size(self) -> int:
        """Ids in use: NUM_SPECIALS + num_items."""
        return NUM_SPECIALS + self.num_items

    def __len__(self) -> int:
        return self.vocab_size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        same_items = self.item_ids.equals(other.item_ids)
        return same_items and np.array_equal(self.train_counts, other.train_counts)

    __hash__ = None  # type: ignore[assignment]  # holds arrays; not a key

    def encode(self, item_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Returns int32 ids [N]; unknown items and nulls give UNK."""
        values = item_ids
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(values, pa.string())
        if values.type != pa.string():
            values = values.cast(pa.string())
        places = pc.index_in(values, value_set=self.item_ids, skip_nulls=True)
        found = pc.fill_null(places, UNK - NUM_SPECIALS)
        return found.to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(NUM_SPECIALS)

    def decode(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        """Returns the strings, object [...], of ids [...]; specials by their bracketed names.

        Raises:
            ValueError: if an id is out of range.
        """
        ids = np.asarray(ids)
        if ids.size and not (0 <= ids.min() and ids.max() < self.vocab_size):
            raise ValueError(f"ids {ids.min()}..{ids.max()} but the vocabulary has 0..{len(self)}")
        flat = self.names().take(pa.array(ids.reshape(-1)))
        return flat.to_numpy(zero_copy_only=False).reshape(ids.shape)

    def names(self) -> pa.Array:
        """Returns the string [V] of every id, specials included."""
        return pa.concat_arrays([pa.array(SPECIALS, pa.string()), self.item_ids])

    def table(self) -> pa.Table:
        """Returns a table (item_id string, item int32) for joins; items only."""
        ids = np.arange(NUM_SPECIALS, self.vocab_size, dtype=np.int32)
        return pa.table({"item_id": self.item_ids, "item": ids})

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary as JSON, whole or not at all."""
        path = Path(path)
        content = {
            "specials": SPECIALS,
            "items": self.item_ids.to_pylist(),
            "train_counts": self.train_counts.tolist(),
        }
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
            UserError: if the file is missing, damaged, or has other special tokens.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: run the prepare stage first") from error
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): prepare it again") from error
        if content.get("specials") != list(SPECIALS):
            raise UserError(
                f"{path} has special tokens {content.get('specials')}, not {list(SPECIALS)}"
            )
        return cls(content["items"], content["train_counts"])
