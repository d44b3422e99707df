"""What joins items and their texts: an item as a token of a text, and a common space of both.

Called by `recjax.tasks.joint_item_text` and `recjax.tasks.text_alignment`.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import BodyConfig, dense, layer_norm
from recjax.models.heads import unit_vectors
from recjax.models.initialisers import partitioned

_FIRST_SCALE = 1 / 0.07  # of similarities, and their bound: Radford et al. (2021), Sec. 2.5
_MAX_SCALE = 100.0


class ItemToken(nn.Module):
    """Takes item vectors into a text's sequence and what the text encoder made of them back.

    Attributes:
        text: settings of the text encoder, width D_t.
        item_dim: width D of item vectors.
    """

    text: BodyConfig
    item_dim: int

    def setup(self) -> None:
        """Declares a layer each way."""
        self.into_text = dense(self.text.hidden_dim, self.text, (None, "embed"))
        self.norm = layer_norm(self.text)
        self.into_items = dense(self.item_dim, self.text, ("embed", None))

    def token(self, vectors: jax.Array) -> jax.Array:
        """Maps item vectors float [N, D] to tokens float [N, D_t], normalised like words."""
        return self.norm(self.into_text(vectors))

    def query(self, hidden: jax.Array) -> jax.Array:
        """Maps hidden states float [N, D_t] to float [N, D], to be compared with item vectors."""
        return self.into_items(hidden)

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Goes there and back, [N, D] to [N, D]: uses, hence initialises, every parameter."""
        return self.query(self.token(vectors))


class CommonSpace(nn.Module):
    """Projects behaviour and text to unit vectors of one space, with a learned temperature.

    Attributes:
        dim: width P of the space.

    Reference:
        Radford et al. (2021), "Learning Transferable Visual Models From Natural Language
        Supervision", Fig. 3: linear projections, unit length, log-parametrised scale.
    """

    dim: int

    @nn.compact
    def __call__(
        self, behaviour: jax.Array, texts: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Projects in float32.

        Args:
            behaviour: float [N, D].
            texts: float [N, D_t].

        Returns:
            Two arrays of unit vectors float32 [N, P], and the scale of their products, float32
            scalar: 1 / temperature, at most 100.
        """
        config = BodyConfig()  # float32: for its dtype only
        sides = []
        for name, x in (("behaviour", behaviour), ("text", texts)):
            x = dense(self.dim, config, (None, None), name)(x.astype(jnp.float32))
            sides.append(unit_vectors(x))
        first = nn.initializers.constant(math.log(_FIRST_SCALE))
        log_scale = self.param("log_scale", partitioned(first, ()), (), jnp.float32)
        return sides[0], sides[1], jnp.exp(jnp.minimum(log_scale, math.log(_MAX_SCALE)))
