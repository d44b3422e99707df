"""The simulated shop's own knowledge, for logs that came from it: scores of the true process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recjax.context import Context
from recjax.data.items import read_items
from recjax.data.simulated_shop import ShopConfig, SimulatedShop


@dataclass(frozen=True)
class ShopOracle:
    """Maps prepared ids back to the shop's and asks the true process.

    Attributes:
        shop: the shop that made the log.
        user_ids: the shop's name of each user number.
        item_ids: the shop's name of each item id; specials first.
        columns: item id of each catalogue column.
        target_actions: what a target's action may be; None: any on an item.
        has_impressions: whether the prepared log has impressions.
    """

    shop: SimulatedShop
    user_ids: list[str]
    item_ids: Sequence[str]
    columns: np.ndarray
    target_actions: tuple[str, ...] | None
    has_impressions: bool

    @classmethod
    def of(cls, context: Context) -> "ShopOracle | None":
        """Returns the oracle of a run on the simulated shop, None for other logs."""
        config = context.config
        if config.data.source != "simulated_shop":
            return None
        prepared = context.workdir / "prepared"
        shop = SimulatedShop(ShopConfig(**config.data.simulated_shop))
        table = read_items(prepared / "items.parquet")
        item_ids = [str(name) for name in table.item_ids]
        number = {name: item for item, name in enumerate(item_ids)}
        catalogue = shop.catalogue()["item_id"].to_pylist()
        return cls(
            shop=shop,
            user_ids=pq.read_table(prepared / "users.parquet", columns=["user_id"])[
                "user_id"
            ].to_pylist(),
            item_ids=item_ids,
            columns=np.array([number[name] for name in catalogue]),
            target_actions=tuple(config.prepare.target_actions) or None,
            has_impressions=(prepared / "impressions.parquet").exists(),
        )

    def next_item(self, records: Sequence[dict[str, Any]]) -> np.ndarray:
        """Returns true probabilities float64 [B, V] of the targets' items, specials -inf."""
        true = self.shop.oracle_next_item(
            [self.user_ids[record["user"]] for record in records],
            np.array([record["target_time"] for record in records], np.int64),
            self.target_actions,
        )
        scores = np.full((len(records), len(self.item_ids)), -np.inf)
        scores[:, self.columns] = true
        return scores

    def clicks(self, records: Sequence[dict[str, Any]]) -> np.ndarray:
        """Returns true click probabilities float64 [B] of impressions."""
        return self.shop.oracle_clicks(
            [self.user_ids[record["user"]] for record in records],
            np.array([record["time"] for record in records], np.int64),
            [self.item_ids[record["item"]] for record in records],
        ).astype(np.float64)
