"""Taobao UserBehavior: a hundred million views, carts, favourites and buys of a million users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recjax.data.datasets.event_log import EventLogBuilder
from recjax.data.datasets.raw_files import iter_csv, open_raw
from recjax.errors import UserError

_NAMES = ["UserBehavior.csv"]
_TYPES = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "category": pa.string(),
    "action": pa.string(),
    "timestamp": pa.int64(),
}
_ACTIONS = {"pv": "view", "fav": "favourite", "cart": "cart", "buy": "buy"}
_DISTINCT_EVERY = 4  # batches between two clean-ups of the item table


class TaobaoUserBehavior(EventLogBuilder):
    """All events with seconds; items have a category number and nothing else.

    On disk: UserBehavior.csv, UserBehavior.csv.zip as downloaded, or a folder of one of them.
    """

    name = "taobao"
    URL = "https://alicloud-dev.oss-cn-hangzhou.aliyuncs.com/UserBehavior.csv.zip"
    HOMEPAGE = "https://tianchi.aliyun.com/dataset/649"
    DESCRIPTION = "User behaviour on Taobao, 25 November to 3 December 2017."
    CITATION = """@inproceedings{zhu2018learning,
      title={Learning Tree-based Deep Model for Recommender Systems},
      author={Zhu, Han and Li, Xiang and Zhang, Pengye and Li, Guozheng and He, Jie and Li, Han
              and Gai, Kun},
      booktitle={Proceedings of KDD}, pages={1079--1088}, year={2018}}"""

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the events in the order of the file."""
        row = 0
        for batch in _iter_rows(path):
            places = pc.index_in(batch.column("action"), value_set=pa.array(list(_ACTIONS)))
            if places.null_count:
                bad = places.is_null().index(True).as_py()
                raise UserError(
                    f"{path}: row {row + bad + 1}, column 4: unknown behaviour "
                    f"{batch.column('action')[bad].as_py()!r}; there are {', '.join(_ACTIONS)}"
                )
            row += batch.num_rows
            actions = pa.array(list(_ACTIONS.values())).take(places)
            yield pa.RecordBatch.from_pydict(
                {
                    "user_id": batch.column("user_id"),
                    "item_id": batch.column("item_id"),
                    "action": actions,
                    "timestamp": batch.column("timestamp"),
                }
            )

    def read_catalogue(self, path: Path) -> pa.Table:
        """Returns the category of every item that occurs, by item_id."""
        parts: list[pa.Table] = []
        for batch in _iter_rows(path):
            parts.append(pa.Table.from_batches([batch]).select(["item_id", "category"]))
            if len(parts) > _DISTINCT_EVERY:
                parts = [_distinct(parts)]
        return _distinct(parts)


def _iter_rows(path: Path) -> Iterator[pa.RecordBatch]:
    with open_raw(path, _NAMES) as stream:
        yield from iter_csv(stream, path, _TYPES)


def _distinct(parts: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts).group_by("item_id").aggregate([("category", "min")])
    return table.rename_columns({"item_id": "item_id", "category_min": "category"}).sort_by(
        "item_id"
    )
