"""The simulated shop as a data set: made, not downloaded; the truth behind it is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recjax.data.datasets.event_log import EventLogBuilder

if TYPE_CHECKING:
    from recjax.data.simulated_shop import ShopConfig, SimulatedShop


class SimulatedShopLog(EventLogBuilder):
    """The behaviour log of `recjax.data.simulated_shop`, bots and spoiled rows included.

    Args:
        shop: size, seed and shares; None = the default shop.
        **kwargs: of EventLogBuilder; `path` has no meaning here.
    """

    name = "simulated_shop"
    DESCRIPTION = "A simulated shop with a known truth, outside the family of hidden Markov models."
    COLUMNS = ("session_id", "query", "rating", "price", "platform")

    def __init__(self, *, shop: ShopConfig | None = None, **kwargs: Any) -> None:
        from recjax.data.simulated_shop import ShopConfig

        self._shop_config = ShopConfig() if shop is None else shop
        kwargs.pop("path", None)
        super().__init__(**kwargs)

    @property
    def origin(self) -> str:
        """The settings that the shop is made from."""
        return json.dumps(dataclasses.asdict(self._shop_config), sort_keys=True)

    def _shop(self) -> SimulatedShop:
        from recjax.data.simulated_shop import SimulatedShop

        return SimulatedShop(self._shop_config)

    def _source_path(self, dl_manager: Any) -> Path:
        del dl_manager
        return Path()

    def read_events(self, path: Path) -> Iterator[pa.RecordBatch]:
        """Yields the log user by user."""
        del path
        yield from self._shop().event_batches()

    def read_catalogue(self, path: Path) -> pa.Table:
        """Returns the shop's catalogue."""
        del path
        return self._shop().catalogue()
