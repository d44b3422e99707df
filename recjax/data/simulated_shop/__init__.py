"""A simulated shop with a known truth, in plain numpy.

`SimulatedShop` makes a catalogue, users, a knowledge graph, a behaviour log and impressions of any
size from a `ShopConfig`, and can say afterwards with which probability everything happened. Its
process is no
hidden Markov model: intents last for tabled, non-geometric numbers of events and go on over
sessions; users differ in taste, budget and habits; prices and sales matter; carts, favourites,
purchases and the style looked at lately are remembered; complements follow purchases; items rise,
fall and are launched.

The story of a block of users, in order: `population` (who they are) -> `clock` (when things happen)
-> `process` (what happens; `mind` holds the state, `choice` the probabilities) -> `slates`
(impressions) -> `dirt` (bots, spoiled rows) -> `tables` (Arrow).
"""

from recjax.data.simulated_shop.config import ACTIONS, START_TIME, ShopConfig
from recjax.data.simulated_shop.shop import SimulatedShop

__all__ = ["ACTIONS", "START_TIME", "ShopConfig", "SimulatedShop"]
