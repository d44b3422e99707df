"""What stands on top of the encoders: tied outputs, BERT's pooler and heads.

Click heads are in `recjax.models.click_heads`. Called by `recjax.tasks` and
`recjax.models.text_bert`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import BodyConfig, dense, gelu, layer_norm
from recjax.models.initialisers import partitioned


class ItemBias(nn.Module):
    """The bias float32 [V] of output logits hidden @ item table^T + bias.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    @nn.compact
    def __call__(self) -> jax.Array:
        """Returns the bias, zeros at first."""
        init = partitioned(nn.initializers.zeros_init(), ("vocab",))
        return self.param("item_bias", init, (self.vocab_size,), jnp.float32)


class DenseHead(nn.Module):
    """One dense layer on top of hidden states or summaries.

    Attributes:
        config: the encoder's settings.
        features: outputs.
    """

    config: BodyConfig
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps float [..., D] to float32 [..., features]."""
        out = dense(self.features, self.config, ("embed", None), "dense")(x)
        return out.astype(jnp.float32)


class Pooler(nn.Module):
    """Summarises a text by its first token, as BERT does.

    Attributes:
        config: the encoder's settings.
    """

    config: BodyConfig

    @nn.compact
    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps hidden states float [B, T, D] to float [B, D], in (-1, 1)."""
        return jnp.tanh(
            dense(self.config.hidden_dim, self.config, ("embed", None), "dense")(hidden[:, 0])
        )


class MaskedTokenHead(nn.Module):
    """What BERT does to a hidden state before it is compared with the word table.

    Attributes:
        config: the encoder's settings.
        vocab_size: V, of the bias.
    """

    config: BodyConfig
    vocab_size: int

    @nn.compact
    def __call__(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps hidden float [..., D] to float [..., D]; also returns the bias float32 [V]."""
        config = self.config
        x = dense(config.hidden_dim, config, ("embed", None), "transform")(hidden)
        x = layer_norm(config, "norm")(gelu(x))
        init = partitioned(nn.initializers.zeros_init(), ("words",))
        return x, self.param("bias", init, (self.vocab_size,), jnp.float32)


def unit_vectors(x: jax.Array) -> jax.Array:
    """Scales vectors float [..., P] to length 1, float32; 0 stays 0, with a finite gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt((x * x).sum(axis=-1, keepdims=True) + 1e-12)
