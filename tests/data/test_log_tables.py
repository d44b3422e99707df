"""Carts and users of a log as labelled tables, against counting in plain loops."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import default
from recjax.data.datasets.cart_outcomes import read_cart_outcomes
from recjax.data.datasets.user_churn import churn_rows, read_invoice_churn, read_user_churn
from recjax.data.row_tables import TableConfig, read_parts
from recjax.errors import UserError

DAY = 86_400


@pytest.fixture
def log(tmp_path):
    """300 events of 5 users in 40 days, with ties; the file and its rows."""
    numbers = np.random.default_rng(1)
    users, items = numbers.integers(5, size=300), numbers.integers(30, size=300)
    kinds = numbers.choice(["view", "cart", "buy"], 300, p=[0.5, 0.3, 0.2])
    times = numbers.integers(160, size=300) * (DAY // 4)
    columns = {"user_id": users, "item_id": items, "behavior": kinds, "timestamp": times}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    return tmp_path, list(zip(*(c.tolist() for c in columns.values()), strict=True))


def test_rows_are_first_carts_and_whether_they_were_bought_in_time(log):
    folder, rows = log
    table = read_cart_outcomes(folder, 7)["train"].to_pylist()
    end = max(time for *_, time in rows)
    expected = []
    for user, item, kind, time in rows:
        pair = [(k, t) for u, i, k, t in rows if (u, i) == (user, item)]
        earlier = {k for k, t in pair if t < time}
        if kind != "cart" or earlier & {"cart", "buy"} or time + 7 * DAY > end:
            continue
        bought = any(k == "buy" and time <= t <= time + 7 * DAY for k, t in pair)
        views = sum(k == "view" and t < time for k, t in pair)
        buys = sum(u == user and k == "buy" and t < time for u, _, k, t in rows)
        expected.append((str(user), str(item), time, buys, views, int(bought)))
    names = ("user", "item", "timestamp", "user_buys", "pair_views", "bought")
    assert [tuple(row[name] for name in names) for row in table] == expected
    assert len(expected) > 15 and {row[-1] for row in expected} == {0, 1}
    with pytest.raises(UserError, match=r"no cart has 60 days after it; lower config.data.table"):
        read_cart_outcomes(folder, 60)


def test_rows_are_users_who_were_here_and_whether_they_came_back(log):
    folder, rows = log
    # some users have to stay away, and one has to come late
    rows = [row for row in rows if row[0] < 3 or (row[0] == 3) == (row[3] > 25 * DAY)]
    rows = [row for row in rows if row[0] != 1 or row[3] % (11 * DAY) < 2 * DAY]
    events = np.array([(user, item, time) for user, item, _, time in rows])
    table = churn_rows(events, 4, folder).to_pylist()
    start, end = events[:, 2].min(), events[:, 2].max()
    cuts = [end - 4 * DAY * k for k in range(1, 99) if end - 4 * DAY * k >= start + 4 * DAY]
    expected = []
    for cut in sorted(cuts):
        for user in range(5):
            mine = [(item, time) for u, item, _, time in rows if u == user]
            known = [(i, t) for i, t in mine if t <= cut]
            recent = [t for _, t in known if t > cut - 4 * DAY]
            if not recent:
                continue
            came = any(cut < t <= cut + 4 * DAY for _, t in mine)
            times = [t for _, t in known]
            seen = set()  # a day is recent if its first event is
            firsts = [t for t in sorted(times) if not (t // DAY in seen or seen.add(t // DAY))]
            expected.append(
                (str(user), cut, (cut - max(times)) / DAY, (cut - min(times)) / DAY, len(known),
                 len({i for i, _ in known}), len(firsts), len(recent),
                 sum(t > cut - 4 * DAY for t in firsts), int(not came))
            )  # fmt: skip
    assert [tuple(row.values()) for row in table] == expected
    assert len(expected) > 15 and {row[-1] for row in expected} == {0, 1}
    with pytest.raises(UserError, match=r"has 39 days, fewer than twice .*horizon_days=21"):
        churn_rows(events, 21, folder)


def test_log_and_invoices_give_the_same_rows(log):
    folder, rows = log
    users, items, _, times = map(list, zip(*rows, strict=True))
    invoices = {
        "InvoiceNo": [str(n) for n in range(300)], "StockCode": [f"S{i}" for i in items],
        "Description": ["x"] * 300, "Quantity": [1] * 300,
        "InvoiceDate": pa.array(times, pa.timestamp("s")), "UnitPrice": [1.0] * 300,
        "CustomerID": users,
    }  # fmt: skip
    pq.write_table(pa.table(invoices), folder / "invoices.parquet")
    left, right = (read(folder, 4)["train"] for read in (read_user_churn, read_invoice_churn))
    for name in left.column_names:
        if name != "user":  # customers are numbered anew
            counts = (sorted(table.column(name).to_pylist()) for table in (left, right))
            assert next(counts) == next(counts), name


def test_days_come_from_the_config_and_rows_are_split_by_time(log):
    settings = default.get_config().data.table.to_dict()
    settings |= {"dataset": "user_churn", "label": "churned", "time": "timestamp"}
    split = {"method": "time", "valid_share": 0.3, "test_share": 0.3, "seed": 0}

    def parts(days):
        given = settings | {"horizon_days": days}
        return read_parts(TableConfig(path=str(log[0]), delimiter="auto", **given, **split), [])

    found = parts(1)
    assert found["train"].num_rows != parts(2)["train"].num_rows
    times = [found[part]["timestamp"].to_numpy() for part in ("train", "valid", "test")]
    assert times[0].max() <= times[1].min() and times[1].max() <= times[2].min()
    with pytest.raises(UserError, match=r"config.data.table.horizon_days=0; give at least 1"):
        parts(0)
