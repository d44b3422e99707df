"""Public data sets and the simulated shop as TFDS builders, one file each.

`DATASETS` maps a name of the config (`data.tfds_name`) to its builder. To add a data set, write one
file with a subclass of `event_log.EventLogBuilder` and add its line here. Builders are imported
when asked for: TFDS takes a second to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from recjax.errors import UserError

if TYPE_CHECKING:
    from recjax.data.datasets.event_log import EventLogBuilder

DATASETS = {
    "movielens_1m": "recjax.data.datasets.movielens_1m:MovieLens1M",
    "amazon_reviews": "recjax.data.datasets.amazon_reviews:AmazonReviews",
    "taobao": "recjax.data.datasets.taobao:TaobaoUserBehavior",
    "online_retail": "recjax.data.datasets.online_retail:OnlineRetail",
    "simulated_shop": "recjax.data.datasets.simulated_shop:SimulatedShopLog",
}

__all__ = ["DATASETS", "get_builder_class"]


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
