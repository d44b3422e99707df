"""The Frappe loader on a log made here: published parts read, the training part rebuilt."""

import gzip

import numpy as np
import pytest

from recjax.data.datasets.frappe import COLUMNS, draw_negatives, read_frappe
from recjax.errors import UserError

SIZES = (5, 30, 3, 2, 2, 2, 2, 2, 3, 4)
NAMES = (*COLUMNS[:2], "cnt", *COLUMNS[2:])


@pytest.fixture
def folder(tmp_path):
    """A log whose values are numbered as they come, and validation and test positives out of it."""
    numbers = np.random.default_rng(0)
    first = np.stack([np.arange(30) % size for size in SIZES], axis=1)
    log = np.concatenate([first, np.stack([numbers.integers(n, size=60) for n in SIZES], axis=1)])
    lines = ["\t".join(NAMES)]
    lines += ["\t".join(f"v{code}" for code in (*row[:2], 9, *row[2:])) for row in log]
    (tmp_path / "frappe.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    offsets = np.cumsum([0, *SIZES[:-1]])
    for part, rows in (("valid", log[30:40]), ("test", log[40:45])):
        written = [" ".join([label, *(f"{i}:1" for i in row + offsets)])
                   for label, row in zip("1" * len(rows), rows, strict=True)]  # fmt: skip
        other = rows[0] + offsets
        written.append(" ".join(["0", *(f"{i}:1" for i in other)]))
        (tmp_path / f"afn_{part}.libsvm").write_text("\n".join(written) + "\n")
    return tmp_path, log


def rows_of(table):
    return list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))


def test_training_part_is_rebuilt_by_the_rule(folder):
    path, log = folder
    parts = read_frappe(path, seed=0)
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 225,
        "valid": 11,
        "test": 6,
    }
    train = parts["train"]
    labels = np.array(train.column("label").to_pylist())
    rows = rows_of(train)
    positives = [row for row, label in zip(rows, labels, strict=True) if label]
    negatives = [row for row, label in zip(rows, labels, strict=True) if not label]
    known = [tuple(f"v{code}" for code in row) for row in log.tolist()]
    assert sorted(positives) == sorted(known[:30] + known[45:])
    opened = {(row[0], row[1]) for row in known}
    assert not opened & {(row[0], row[1]) for row in negatives}
    assert len(set(negatives)) == len(negatives)
    contexts = sorted((row[0], *row[2:]) for row in positives for _ in range(2))
    assert sorted((row[0], *row[2:]) for row in negatives) == contexts
    assert rows_of(parts["valid"])[:10] == known[30:40]


def test_seed_decides_the_negatives_and_nothing_else(folder):
    path, _ = folder
    one, same, other = (read_frappe(path, seed) for seed in (0, 0, 1))
    assert one["train"] == same["train"] and one["test"] == other["test"]
    assert one["train"] != other["train"]
    assert one["train"].slice(0, 75) == other["train"].slice(0, 75)


def test_published_training_part_is_read_where_it_is_there(folder):
    path, _ = folder
    (path / "train.libsvm").write_text((path / "afn_valid.libsvm").read_text())
    assert rows_of(read_frappe(path, 0)["train"]) == rows_of(read_frappe(path, 0)["valid"])


def test_user_without_apps_left_is_named():
    log = np.array([[0, item, *[0] * 8] for item in range(3)])
    with pytest.raises(UserError, match="user 0 has opened so many of the 3 apps"):
        draw_negatives(log, log, log, 3, np.random.default_rng(0))


def test_files_that_do_not_fit_are_refused(folder):
    path, _ = folder
    good = (path / "afn_test.libsvm").read_text()
    (path / "afn_test.libsvm").write_text(good.replace("1 ", "1 9", 1))
    with pytest.raises(UserError, match="ids that are not values of the log|not in the log"):
        read_frappe(path, 0)
    (path / "afn_test.libsvm").write_text("one two\n")
    with pytest.raises(UserError, match="afn_test.libsvm: not lines of label and ids"):
        read_frappe(path, 0)
    (path / "afn_test.libsvm").unlink()
    with pytest.raises(UserError, match="no afn_test.libsvm or test.libsvm"):
        read_frappe(path, 0)
