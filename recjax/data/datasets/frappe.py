"""Frappe as a labelled table: which app a user opens in which context, as published by AFN.

Validation and test are the published files, byte for byte. The published training file is read
where it is there; else it is rebuilt: the log without the positives of validation and test leaves
its positives, and each gets two negatives with the same user and context, their app drawn from
those that the user never opened. Called by `recjax.data.row_tables`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data.datasets.raw_files import has_raw, iter_csv, open_raw
from recjax.errors import UserError

COLUMNS = (
    "user", "item", "daytime", "weekday", "isweekend",
    "homework", "cost", "weather", "country", "city",
)  # fmt: skip
NEGATIVES_PER_POSITIVE = 2
_MAX_ROUNDS = 1000  # of drawing again what does not fit; real data need a handful
_LOG = ["frappe.csv"]
_PARTS = {part: [f"afn_{part}.libsvm", f"{part}.libsvm"] for part in ("train", "valid", "test")}
_ITEM = COLUMNS.index("item")


@dataclass(frozen=True)
class Rows:
    """Labelled rows; values are numbered column by column in the order in which the log has them.

    Attributes:
        codes: int64 [N, 10].
        labels: int64 [N], 0 or 1.
    """

    codes: np.ndarray
    labels: np.ndarray


def read_frappe(folder: Path, seed: int) -> dict[str, pa.Table]:
    """Returns the parts train, valid and test, each with `label` and the columns of the log.

    Args:
        folder: holds frappe.csv and AFN's valid and test files (train too, if at hand), gzipped or
            not.
        seed: of the negatives of a rebuilt training part.

    Raises:
        UserError: if a file is missing or does not fit the log.

    Reference:
        Baltrunas et al. (2015), "Frappe"; split of Cheng, Shen and Huang (2020), "Adaptive
        Factorization Network".
    """
    names, log = _read_log(folder)
    sizes = [len(values) for values in names]
    there = [part for part in _PARTS if part != "train" or has_raw(folder, _PARTS[part])]
    parts = {part: _read_part(folder, part, sizes) for part in there}
    if "train" not in parts:
        parts["train"] = rebuild_train(log, [parts["valid"], parts["test"]], sizes[_ITEM], seed)
    return {part: _to_table(parts[part], names) for part in _PARTS}


def rebuild_train(log: np.ndarray, others: list[Rows], num_items: int, seed: int) -> Rows:
    """Returns the training part: what is left of the log, and drawn negatives.

    Args:
        log: int64 [N, 10], every positive.
        others: validation and test.
        num_items: apps.
        seed: of the draws.

    Raises:
        UserError: if a positive of the others is not in the log.
    """
    left = Counter(map(tuple, log.tolist()))
    for rows in others:
        left.subtract(map(tuple, rows.codes[rows.labels == 1].tolist()))
    if min(left.values()) < 0:
        row = next(row for row, count in left.items() if count < 0)
        raise UserError(f"Frappe: a positive of validation or test is not in the log: {row}")
    positives = np.array([row for row, count in left.items() for _ in range(count)], np.int64)
    taken = np.concatenate([log, *(rows.codes for rows in others)])
    negatives = draw_negatives(np.repeat(positives, NEGATIVES_PER_POSITIVE, axis=0), log, taken,
                               num_items, np.random.default_rng(seed))  # fmt: skip
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    return Rows(np.concatenate([positives, negatives]), labels)


def draw_negatives(
    rows: np.ndarray,
    log: np.ndarray,
    taken: np.ndarray,
    num_items: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Returns rows [N, 10] with other items: never opened by the user, no row twice or taken.

    Raises:
        UserError: if a user has too few apps left.
    """
    rows = rows.copy()
    opened = np.unique(_keys(log[:, 0], log[:, _ITEM], num_items))
    # Rows are compared by the number of their context, which stays as it is, and their item.
    everything = np.concatenate([np.delete(taken, _ITEM, axis=1), np.delete(rows, _ITEM, axis=1)])
    context = np.unique(everything, axis=0, return_inverse=True)[1].reshape(-1)
    used = np.unique(_keys(context[: len(taken)], taken[:, _ITEM], num_items))
    context, missing = context[len(taken) :], np.arange(len(rows))
    for _ in range(_MAX_ROUNDS):
        items = generator.integers(num_items, size=len(missing))
        keys = _keys(context[missing], items, num_items)
        good = ~np.isin(_keys(rows[missing, 0], items, num_items), opened) & ~np.isin(keys, used)
        first = np.zeros(len(missing), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        good &= first
        rows[missing[good], _ITEM] = items[good]
        used = np.union1d(used, keys[good])
        missing = missing[~good]
        if not len(missing):
            return rows
    raise UserError(
        f"Frappe: user {rows[missing[0], 0]} has opened so many of the {num_items} apps that there "
        "are not enough left for negatives"
    )


def _keys(left: np.ndarray, item: np.ndarray, num_items: int) -> np.ndarray:
    return left * num_items + item


def _read_log(folder: Path) -> tuple[list[list[str]], np.ndarray]:
    """Returns the values of every column, in the order of the log, and the log in their numbers."""
    with open_raw(folder, _LOG) as stream:
        types = dict.fromkeys(COLUMNS, pa.string())
        path = folder / _LOG[0]
        batches = list(iter_csv(stream, path, types, header=True, delimiter="\t"))
    table = pa.Table.from_batches(batches)
    encoded = [table.column(name).combine_chunks().dictionary_encode() for name in COLUMNS]
    names = [column.dictionary.to_pylist() for column in encoded]
    return names, np.stack([column.indices.to_numpy() for column in encoded], 1).astype(np.int64)


def _read_part(folder: Path, part: str, sizes: list[int]) -> Rows:
    """Reads "label id:1 id:1 ..." lines; ids count through all columns."""
    with open_raw(folder, _PARTS[part]) as stream:
        lines = stream.read().decode().replace(":1", "").split("\n")
    try:
        numbers = np.array([line.split() for line in lines if line], np.int64)
    except ValueError as error:
        raise UserError(f"{folder}: {_PARTS[part][0]}: not lines of label and ids") from error
    codes = numbers[:, 1:] - np.cumsum([0, *sizes[:-1]])
    if codes.shape[1] != len(sizes) or (codes < 0).any() or (codes >= sizes).any():
        raise UserError(f"{folder}: {_PARTS[part][0]} has ids that are not values of the log")
    return Rows(codes, (numbers[:, 0] > 0).astype(np.int64))


def _to_table(rows: Rows, names: list[list[str]]) -> pa.Table:
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array(rows.codes[:, place]), pa.array(values)).cast(
            pa.string()
        )
        for place, (name, values) in enumerate(zip(COLUMNS, names, strict=True))
    }
    return pa.table({"label": pa.array(rows.labels), **columns})
