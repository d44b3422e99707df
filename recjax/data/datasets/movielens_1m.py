"""MovieLens-1M: a million movie ratings of six thousand users, with titles and genres."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from recjax.data.datasets.event_log import EventLogBuilder
from recjax.data.datasets.raw_files import BLOCK_BYTES, has_raw, iter_csv, open_raw

_RATING_TYPES = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "rating": pa.float32(),
    "timestamp": pa.int64(),
}
_MOVIE_TYPES = {"item_id": pa.string(), "title": pa.string(), "category": pa.string()}


class MovieLens1M(EventLogBuilder):
    """Ratings 1 to 5 with seconds; every rating is an event "rate".

    On disk: ml-1m.zip as downloaded, its folder, or ratings.dat alone (then without a catalogue).
    The first genre of a movie stands as its category.
    """

    name = "movielens_1m"
    URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    HOMEPAGE = "https://grouplens.org/datasets/movielens/1m/"
    DESCRIPTION = "One million ratings from 6000 users on 4000 movies, 2000 to 2003."
    CITATION = """@article{harper2015movielens,
      title={The MovieLens Datasets: History and Context},
      author={Harper, F. Maxwell and Konstan, Joseph A.},
      journal={ACM Transactions on Interactive Intelligent Systems},
      volume={5}, number={4}, pages={19:1--19:19}, year={2015}}"""
    COLUMNS = ("rating",)

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the ratings in the order of the file."""
        for batch in _iter_dat(path, "ratings.dat", _RATING_TYPES):
            action = pa.array(["rate"]).take(pa.array([0] * batch.num_rows))
            yield batch.append_column("action", action)

    def read_catalogue(self, path: Path) -> pa.Table | None:
        """Returns the movies, where movies.dat is there."""
        if not has_raw(path, ["movies.dat"]):
            return None
        movies = pa.Table.from_batches(_iter_dat(path, "movies.dat", _MOVIE_TYPES))
        genres = [text and text.split("|")[0] for text in movies["category"].to_pylist()]
        return movies.set_column(2, "category", pa.array(genres, pa.string()))


def _iter_dat(path: Path, name: str, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a file with "::" between fields, a few megabytes at a time."""
    with open_raw(path, [name]) as stream:
        while lines := stream.readlines(BLOCK_BYTES):
            text = io.BytesIO(b"".join(lines).replace(b"::", b"\x1f"))
            yield from iter_csv(text, path, types, delimiter="\x1f", encoding="latin-1")
