"""Size, seed and fixed names of the simulated shop.

Here: `ShopConfig`, the clock's origin and the action names. Not here: any number that shapes
behaviour (see `world`, `population`, `choice`). Called by every module of this package and by the
stage that prepares data.
"""

import dataclasses

from recjax.errors import UserError

START_TIME = 1609718400  # 2021-01-04 00:00 UTC, a Monday; second 0 of the shop
DAY_SECONDS = 86400
WEEK_SECONDS = 7 * DAY_SECONDS

ACTIONS = ("search", "view", "click", "favourite", "cart", "buy", "rate")
SEARCH, VIEW, CLICK, FAVOURITE, CART, BUY, RATE = range(len(ACTIONS))


@dataclasses.dataclass(frozen=True)
class ShopConfig:
    """What is needed to rebuild a shop to the last byte.

    Attributes:
        num_users: registered users, bots included (at least 1).
        num_items: items of the catalogue (at least 40).
        num_days: length of the log in days (7 to 1500).
        seed: drives everything random; the same config gives the same shop.
        dirty_share: spoiled extra rows per true event, 0 to 0.5.
        bot_share: share of the users that are bots, 0 to 0.5.

    Raises:
        UserError: if a value lies outside its range.
    """

    num_users: int = 2000
    num_items: int = 500
    num_days: int = 60
    seed: int = 7
    dirty_share: float = 0.01
    bot_share: float = 0.01

    def __post_init__(self) -> None:
        _check("num_users", self.num_users, 1, 1e9)
        _check("num_items", self.num_items, 40, 1e8)
        _check("num_days", self.num_days, 7, 1500)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check("dirty_share", self.dirty_share, 0, 0.5)
        _check("bot_share", self.bot_share, 0, 0.5)

    @property
    def end_time(self) -> int:
        """The second at which the last day ends."""
        return START_TIME + self.num_days * DAY_SECONDS


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(
            f"data.simulated_shop.{name} is {value}; it must lie between {low} and {high:.10g}"
        )
