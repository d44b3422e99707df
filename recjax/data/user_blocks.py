"""Streams a Parquet file sorted by user as blocks of whole users, in bounded memory.

Used by `examples.py` for events and impressions. Knows columns and offsets, not their meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recjax.errors import UserError

BATCH_ROWS = 1 << 17  # rows read at a time; a block is this plus at most one user


@dataclass(frozen=True)
class UserBlock:
    """Rows of whole users: `columns[name][offsets[i]:offsets[i + 1]]` are those of `users[i]`.

    Attributes:
        users: int [U], ascending.
        offsets: int64 [U + 1].
        columns: name -> array [N].
    """

    users: np.ndarray
    offsets: np.ndarray
    columns: dict[str, np.ndarray]

    @property
    def num_rows(self) -> int:
        """Rows N of the block."""
        return int(self.offsets[-1])

    @property
    def row_user(self) -> np.ndarray:
        """int64 [N]: for each row the place of its user in `users`."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))

    def keep(self, mask: np.ndarray) -> UserBlock:
        """Returns the block with the rows where mask [N] is True; users may end without rows."""
        counts = np.bincount(self.row_user[mask], minlength=len(self.users))
        columns = {name: values[mask] for name, values in self.columns.items()}
        return UserBlock(self.users, _offsets(counts), columns)


def iter_user_blocks(
    path: str | Path, columns: Sequence[str], batch_rows: int = BATCH_ROWS
) -> Iterator[UserBlock]:
    """Yields the users of a file in order, each whole in exactly one block.

    Args:
        path: Parquet file with a column `user`, ascending.
        columns: other columns to read.
        batch_rows: rows read at a time; does not change what is yielded, only its cut.

    Raises:
        UserError: if the file is missing, lacks a column or is not sorted by user.
    """
    parts: list[dict[str, np.ndarray]] = []  # rows of the user that may go on in the next batch
    last_user = None
    for batch in _read_batches(path, ["user", *columns], batch_rows):
        users = batch["user"]
        if np.any(np.diff(users) < 0) or (last_user is not None and users[0] < last_user):
            raise UserError(f"{path}: rows are not sorted by user")
        last_user = users[-1]
        cut = int(np.searchsorted(users, last_user))
        if cut == 0 and parts and parts[0]["user"][0] == last_user:
            parts.append(batch)
            continue
        yield from _block(parts + [{name: v[:cut] for name, v in batch.items()}])
        parts = [{name: v[cut:] for name, v in batch.items()}]
    yield from _block(parts)


def _read_batches(
    path: str | Path, columns: Sequence[str], batch_rows: int
) -> Iterator[dict[str, np.ndarray]]:
    if not Path(path).exists():
        raise UserError(f"{path} is missing: run the prepare stage first")
    with pq.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path}: no column {missing[0]!r}; it has {file.schema_arrow.names}")
        for batch in file.iter_batches(batch_rows, columns=list(columns)):
            if batch.num_rows:
                yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}


def _block(parts: Sequence[dict[str, np.ndarray]]) -> Iterator[UserBlock]:
    parts = [part for part in parts if len(part["user"])]
    if not parts:
        return
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    users, counts = np.unique(columns.pop("user"), return_counts=True)
    yield UserBlock(users, _offsets(counts), columns)


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
