"""Strategy `sequence_vae`: whole new users decoded from latent vectors drawn from the prior.

A vector says what kind of user it is, the decoder (`recjax.tasks.sequence_vae`) what such a user
does, the first item included; how items are drawn is in `item_by_item`.

Reference:
    Bowman et al. (2016), "Generating Sentences from a Continuous Space"; Sachdeva et al. (2019),
    "Sequential Variational Autoencoders for Collaborative Filtering".
"""

from recjax.expansion.generate.item_by_item import ItemByItem


class SequenceVae(ItemByItem):
    """Draws whole users from a trained variational autoencoder."""

    name = "sequence_vae"
