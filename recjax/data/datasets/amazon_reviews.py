"""Amazon product reviews by category (2014 crawl): who rated what, and when, to the day."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import tensorflow_datasets as tfds

from recjax.data.datasets.event_log import EventLogBuilder
from recjax.data.datasets.raw_files import iter_csv, open_raw
from recjax.errors import UserError

CATEGORIES = (
    "Amazon_Instant_Video", "Apps_for_Android", "Automotive", "Baby", "Beauty", "Books",
    "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Grocery_and_Gourmet_Food", "Health_and_Personal_Care",
    "Home_and_Kitchen", "Kindle_Store", "Movies_and_TV", "Musical_Instruments",
    "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Sports_and_Outdoors",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games",
)  # fmt: skip
_ROWS = 1 << 15  # reviews per record batch
_ASIN = re.compile(r"[B0-9][0-9A-Z]{9}")  # item numbers: ten characters
_MILLISECONDS = 10**11  # larger times are milliseconds (the 2023 crawl)


class AmazonReviews(EventLogBuilder):
    """Reviews as events "review" with their rating; one config per category.

    Downloads the 5-core of a category. On disk: reviews_CATEGORY_5.json[.gz], or ratings as CSV
    without a header (user,item,rating,time of 2014; item,user,rating,time of 2018, told apart by
    the form of the item number) or with one (2023), gzipped or not; or a folder of one of them.
    """

    name = "amazon_reviews"
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=category, description=category.replace("_", " "))
        for category in CATEGORIES
    ]
    HOMEPAGE = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html"
    DESCRIPTION = "Product reviews from Amazon, May 1996 to July 2014, 5-core by category."
    CITATION = """@inproceedings{mcauley2015image,
      title={Image-Based Recommendations on Styles and Substitutes},
      author={McAuley, Julian and Targett, Christopher and Shi, Qinfeng and van den Hengel, Anton},
      booktitle={Proceedings of SIGIR}, pages={43--52}, year={2015}}"""
    COLUMNS = ("rating",)

    @property
    def url(self) -> str:
        """The 5-core file of the category."""
        folder = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
        return f"{folder}/reviews_{self.builder_config.name}_5.json.gz"

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the reviews in the order of the file."""
        category = self.builder_config.name
        names = [
            f"reviews_{category}_5.json", f"reviews_{category}.json", f"{category}_5.json",
            f"ratings_{category}.csv", f"{category}.csv",
        ]  # fmt: skip
        with open_raw(path, names) as stream:
            first, rest = _peek(stream)
            batches = _iter_json(rest, path) if first.startswith("{") else _iter_csv(
                rest, path, first
            )  # fmt: skip
            for batch in batches:
                action = pa.array(["review"]).take(pa.array([0] * batch.num_rows))
                yield batch.append_column("action", action)


class _Joined:
    """A stream with its first line put back, for readers that only call `read`."""

    closed = False

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            head, self._head = self._head, b""
            return head + self._stream.read()
        head, self._head = self._head[:size], self._head[size:]
        return head

    def __iter__(self) -> Iterator[bytes]:
        if self._head:
            head, self._head = self._head, b""
            yield head
        yield from self._stream


def _peek(stream: IO[bytes]) -> tuple[str, _Joined]:
    head = stream.readline()
    return head.decode("utf-8", "replace").strip(), _Joined(head, stream)


def _iter_csv(stream: Any, path: Path, first: str) -> Iterator[pa.RecordBatch]:
    """Yields ratings of a CSV of 2014, 2018 or 2023; the first line tells which."""
    fields = first.split(",")
    header = "rating" in fields
    user, item = "user_id", "item_id"
    if header:
        item = "parent_asin" if "parent_asin" in fields else "asin" if "asin" in fields else item
    elif len(fields) != 4:
        raise UserError(f"{path}: row 1 has {len(fields)} fields, not user,item,rating,time")
    names = [user, item, "rating", "timestamp"]
    if not header and _ASIN.fullmatch(fields[0]) and not _ASIN.fullmatch(fields[1]):
        names[:2] = [item, user]
    kinds = {"rating": pa.float32(), "timestamp": pa.int64()}
    types = {name: kinds.get(name, pa.string()) for name in names}
    for batch in iter_csv(stream, path, types, header=header):
        times = batch.column("timestamp").to_pylist()
        seconds = [t // 1000 if t is not None and t > _MILLISECONDS else t for t in times]
        yield pa.RecordBatch.from_pydict(
            {
                "user_id": batch.column(user),
                "item_id": batch.column(item),
                "rating": batch.column("rating"),
                "timestamp": pa.array(seconds, pa.int64()),
            }
        )


def _iter_json(stream: _Joined, path: Path) -> Iterator[pa.RecordBatch]:
    """Yields reviews of a file with one JSON object a line."""
    rows: dict[str, list] = {"user_id": [], "item_id": [], "rating": [], "timestamp": []}
    for number, line in enumerate(stream, 1):
        try:
            review = json.loads(line)
            rows["user_id"].append(review["reviewerID"])
            rows["item_id"].append(review["asin"])
            rows["rating"].append(float(review["overall"]))
            rows["timestamp"].append(int(review["unixReviewTime"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: row {number} is no review: {error!r}") from error
        if number % _ROWS == 0:
            yield _batch_of(rows)
            rows = {name: [] for name in rows}
    if rows["user_id"]:
        yield _batch_of(rows)


def _batch_of(rows: dict[str, list]) -> pa.RecordBatch:
    types = {"rating": pa.float32(), "timestamp": pa.int64()}
    return pa.RecordBatch.from_pydict(
        {name: pa.array(values, types.get(name, pa.string())) for name, values in rows.items()}
    )
