"""Strategy `transformer`: whole new users from a causal model of the next item, the HMM's rival.

First items are those of real users; how the others are drawn is in `item_by_item`.

Reference:
    Kang and McAuley (2018), "Self-attentive sequential recommendation".
"""

from recjax.expansion.generate.item_by_item import ItemByItem


class Transformer(ItemByItem):
    """Draws whole users from a trained model of the next item."""

    name = "transformer"
