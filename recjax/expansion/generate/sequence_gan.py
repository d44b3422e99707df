"""Strategy `sequence_gan`: whole new users from a generator that learned to fool a critic.

The game is `recjax.tasks.sequence_gan`'s. First items are those of real users; how the others are
drawn is in `item_by_item`.

Reference:
    Kusner and Hernandez-Lobato (2016), "GANs for sequences of discrete elements with the
    Gumbel-softmax distribution".
"""

from recjax.expansion.generate.item_by_item import ItemByItem


class SequenceGan(ItemByItem):
    """Draws whole users from the generator of a trained adversarial game."""

    name = "sequence_gan"
