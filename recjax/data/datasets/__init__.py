"""Public data sets and the simulated shop as TFDS builders, one file each.

`DATASETS` maps a name of the config (`data.tfds_name`) to its builder. To add a data set, write one
file with a subclass of `event_log.EventLogBuilder` and add its line here. Builders are imported
when asked for: TFDS takes a second to import.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recjax.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from recjax.data.datasets.event_log import EventLogBuilder

DATASETS = {
    "movielens_1m": "recjax.data.datasets.movielens_1m:MovieLens1M",
    "amazon_reviews": "recjax.data.datasets.amazon_reviews:AmazonReviews",
    "taobao": "recjax.data.datasets.taobao:TaobaoUserBehavior",
    "online_retail": "recjax.data.datasets.online_retail:OnlineRetail",
    "simulated_shop": "recjax.data.datasets.simulated_shop:SimulatedShopLog",
}

__all__ = [
    "DATASETS",
    "build_dataset",
    "export_dataset",
    "get_builder",
    "get_builder_class",
    "iter_event_batches",
]


def get_builder_class(name: str) -> type[EventLogBuilder]:
    """Returns the builder class of a data set.

    Args:
        name: a key of `DATASETS`, without a config ("amazon_reviews", not "amazon_reviews/Beauty").

    Raises:
        UserError: if there is no such data set.
    """
    if name not in DATASETS:
        raise UserError(f"data.tfds_name: unknown data set {name!r}; there are {sorted(DATASETS)}")
    module, class_name = DATASETS[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def get_builder(
    name: str, *, source: str | Path = "", data_dir: str | Path, **kwargs: Any
) -> EventLogBuilder:
    """Returns the builder of a data set, prepared or not.

    Args:
        name: key of `DATASETS`, with a config where there are several ("amazon_reviews/Beauty").
        source: original file or folder on disk; "" downloads when it is prepared.
        data_dir: holds or gets NAME/[CONFIG/]1.0.0.
        **kwargs: further arguments of the builder, e.g. shop=ShopConfig(...).

    Raises:
        UserError: if name or config are unknown, or data_dir holds the data set built from
            something else.
    """
    base, _, config = name.partition("/")
    builder_class = get_builder_class(base)
    known = [c.name for c in builder_class.BUILDER_CONFIGS]
    if config and config not in known:
        raise UserError(f"data.tfds_name: {base} has no config {config!r}; it has {known}")
    if not config and len(known) > 1:
        raise UserError(f"data.tfds_name: {base} needs a config, e.g. '{base}/{known[0]}': {known}")
    builder = builder_class(path=source, data_dir=str(data_dir), config=config or None, **kwargs)
    builder.check_origin()
    return builder


def build_dataset(
    name: str, data_dir: str | Path, source: str | Path = "", **kwargs: Any
) -> EventLogBuilder:
    """Returns the builder of `get_builder`, prepared.

    Raises:
        UserError: as `get_builder`; also if the source is missing, unreadable or out of reach.
    """
    builder = get_builder(name, source=source, data_dir=data_dir, **kwargs)
    builder.download_and_prepare()
    return builder


def iter_event_batches(builder: EventLogBuilder) -> Iterator[pa.RecordBatch]:
    """Yields the log of a prepared data set in its original order.

    Columns: user_id, item_id, action, timestamp (seconds) and the data set's own.
    """
    yield from builder.event_batches()


def export_dataset(builder: EventLogBuilder, folder: str | Path) -> dict[str, Path]:
    """Writes a prepared data set as Parquet, whole or not at all.

    Returns:
        "events" and, where there is one, "catalogue": the paths written.
    """
    return builder.export(Path(folder))
