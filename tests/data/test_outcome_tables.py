"""The census and the log of views as labelled tables, on files made here."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import default
from recjax.data.datasets.census import COLUMNS, read_census
from recjax.data.datasets.view_outcomes import read_view_outcomes
from recjax.data.row_tables import TableConfig, read_labels, read_parts
from recjax.errors import UserError

HOUR = 3600


@pytest.fixture
def census(tmp_path):
    """Forty people in the two files, with the spaces, marks and full stops that theirs have."""

    def line(number, end=""):
        values = dict.fromkeys(COLUMNS, "x") | {"age": str(20 + number), "country": "?"}
        values["marital_status"] = "Never-married" if number % 3 else "Divorced"
        values["income"] = (">50K" if number % 4 == 0 else "<=50K") + end
        return ", ".join(values.values())

    lines = "\n".join(line(n) for n in range(30)) + "\n\n"
    (tmp_path / "adult.data.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "adult.test").write_text("\n".join(line(n, ".") for n in range(10)) + "\n")
    return tmp_path


def test_census_has_its_parts_and_two_outcomes(census):
    parts = read_census(census)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 30, "test": 10}
    assert parts["test"].column("income").to_pylist()[:2] == [">50K", "<=50K"]
    assert parts["train"].column("country").null_count == 30
    also = {"unmarried": {"column": "marital_status", "yes": "Never-married"}}
    given = {"dataset": "census", "label": "income", "yes": ">50K", "also": also}
    settings = default.get_config().data.table.to_dict() | given
    split = {"method": "rows", "valid_share": 0.3, "test_share": 0.1, "seed": 0}
    config = TableConfig(path=str(census), delimiter="auto", **settings, **split)
    cut = read_parts(config, ["age"])
    ages = [cut[part].column("age").to_pylist() for part in ("train", "valid")]
    assert 3 < len(ages[1]) < 15 and sorted(sum(ages, [])) == [str(20 + n) for n in range(30)]
    assert [outcome.name for outcome in config.outcomes] == ["income", "unmarried"]
    unmarried = read_labels(cut["test"], config.outcomes[1])
    np.testing.assert_array_equal(unmarried, [n % 3 > 0 for n in range(10)])


def test_another_file_is_not_the_census(census):
    (census / "adult.test").write_text(", ".join(COLUMNS) + "\n")
    with pytest.raises(UserError, match="adult.test is not the census table"):
        read_census(census)


def write_log(path, rows):
    names = ("user_id", "item_id", "behavior", "timestamp")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path)


def test_rows_are_viewed_pairs_and_what_came_after(tmp_path):
    numbers = np.random.default_rng(0)
    rows = [
        (int(u), int(i), str(b), int(t))
        for u, i, b, t in zip(
            numbers.integers(4, size=300), numbers.integers(9, size=300),
            numbers.choice(["pv", "cart", "buy", "fav"], 300, p=[0.6, 0.2, 0.1, 0.1]),
            numbers.integers(40, size=300) * HOUR, strict=True,
        )
    ]  # fmt: skip
    write_log(tmp_path / "events.parquet", rows)
    table = read_view_outcomes(tmp_path)["train"]
    assert read_view_outcomes(tmp_path / "events.parquet")["train"].equals(table)

    def count(kind, time, **same):
        return sum(
            b == kind and t < time and all((u if k == "user" else i) == v for k, v in same.items())
            for u, i, b, t in rows
        )

    expected = []
    for user, item, kind, time in rows:
        if kind != "pv" or any(count(k, time, user=user, item=item) for k in ("cart", "buy")):
            continue
        taken, bought = (
            any(count(kind, 10**9, user=user, item=item) for kind in kinds)
            for kinds in (("cart", "buy"), ("buy",))
        )
        counts = [
            count(kind, time, **{whose: user if whose == "user" else item})
            for whose in ("user", "item") for kind in ("pv", "cart", "buy")
        ]  # fmt: skip
        hours = time // HOUR
        expected.append(
            (str(user), str(item), str(hours % 24), str((hours // 24 + 3) % 7), time, *counts,
             int(taken), int(bought))
        )  # fmt: skip
    found = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert found == expected and len(found) > 20
    assert all(row[-2] >= row[-1] for row in found) and any(row[-1] for row in found)


def test_log_without_carts_or_columns_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"events.parquet: no such file"):
        read_view_outcomes(tmp_path)
    write_log(tmp_path / "events.parquet", [(1, 2, "view", 3), (1, 2, "buy", 4)])
    with pytest.raises(UserError, match="no cart"):
        read_view_outcomes(tmp_path)
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "events.parquet")
    with pytest.raises(UserError, match="no column 'item_id'"):
        read_view_outcomes(tmp_path)
