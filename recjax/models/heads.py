"""What stands on top of the encoders: tied outputs, the click tower, BERT's pooler and heads.

Called by `recjax.tasks` and `recjax.models.text_bert`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import BodyConfig, dense, gelu, layer_norm
from recjax.models.dropout import dropout
from recjax.models.embeddings import Table
from recjax.models.initialisers import kernel_init, partitioned

_CONTEXT_DIM = 8
_UNIT_DIM = 36  # of DIN's activation unit
_TOWER_SITE = 1 << 20  # beyond every site of the encoder


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


class ClickHead(nn.Module):
    """Scores one candidate against an encoded history, with its context.

    The candidate attends over the history (target attention); the tower sees the attended and the
    pooled history, the candidate, both products, and embeddings of gap, hour, weekday, position.

    Attributes:
        hidden_dims: widths of the tower.
        num_gap_bins: time-gap bins of the candidate.
        num_positions: display positions; later ones count as the last.
        dropout_rate: after each hidden layer.
        dtype: compute dtype; the logit is float32.
    """

    hidden_dims: tuple[int, ...]
    num_gap_bins: int
    num_positions: int
    dropout_rate: float
    dtype: jnp.dtype
    encodes: ClassVar[bool] = True  # whether the history goes through the encoder first

    @nn.compact
    def __call__(
        self,
        hidden: jax.Array,
        pooled: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Computes logits.

        Args:
            hidden: float [B, T, D], the history, encoded or as embedded (`encodes`).
            pooled: float [B, D], its summary; 0 where there is no history.
            candidate: float [B, D], embedding of the candidate item.
            batch: segments [B, T]; candidate_gap, hour, weekday, position int32 [B].
            keys: typed PRNG keys [B] for dropout, or None.

        Returns:
            float32 [B], log-odds of a click.
        """
        candidate = nn.LayerNorm(dtype=self.dtype, name="candidate_norm")(candidate)
        attended = self._attend_to_history(hidden, candidate, batch["segments"])
        pairs = (attended * candidate, pooled * candidate)
        parts = (attended, pooled, candidate, *pairs, *self._context(batch))
        x = jnp.concatenate([part.astype(self.dtype) for part in parts], axis=-1)
        for index, width in enumerate(self.hidden_dims):
            x = nn.gelu(self._dense(width, f"tower_{index}")(x))
            x = dropout(x, self.dropout_rate, keys, site=_TOWER_SITE + index)
        return self._dense(1, "logit")(x)[:, 0].astype(jnp.float32)

    def _attend_to_history(
        self, hidden: jax.Array, candidate: jax.Array, segments: jax.Array
    ) -> jax.Array:
        """History weighted by its likeness to the candidate, float [B, D]; 0 without history."""
        query = self._dense(hidden.shape[-1], "candidate_query")(candidate)
        scores = jnp.einsum("bd,btd->bt", query, hidden, preferred_element_type=jnp.float32)
        scores = jnp.where(segments > 0, scores * hidden.shape[-1] ** -0.5, -1e30)
        weights = jnp.where(segments > 0, jax.nn.softmax(scores, axis=-1), 0)
        return jnp.einsum("bt,btd->bd", weights.astype(hidden.dtype), hidden)

    def _context(self, batch: dict[str, jax.Array]) -> list[jax.Array]:
        sizes = {
            "candidate_gap": self.num_gap_bins,
            "hour": 24,
            "weekday": 7,
            "position": self.num_positions,
        }
        return [Table(n, _CONTEXT_DIM, name=f"{k}_table")(batch[k]) for k, n in sizes.items()]

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(
            features,
            dtype=self.dtype,
            kernel_init=partitioned(kernel_init, (None, None)),
            name=name,
        )


class DinHead(ClickHead):
    """Deep interest network: the history as it is embedded, weighed event by event.

    The weights come from a small tower over event, candidate, difference and product, and do not
    add up to 1, so that a strong interest stays strong. The rest is as in `ClickHead`.

    Reference:
        Zhou et al. (2018), "Deep Interest Network for Click-Through Rate Prediction", Sec. 4.3;
        the unit of their published code, ReLU in place of Dice.
    """

    encodes: ClassVar[bool] = False

    def _attend_to_history(
        self, hidden: jax.Array, candidate: jax.Array, segments: jax.Array
    ) -> jax.Array:
        """Weighted sum of the history, float [B, D]; 0 without history."""
        target = jnp.broadcast_to(candidate[:, None], hidden.shape).astype(hidden.dtype)
        pair = jnp.concatenate([hidden, target, hidden - target, hidden * target], axis=-1)
        unit = nn.relu(self._dense(_UNIT_DIM, "unit_in")(pair))
        weights = self._dense(1, "unit_out")(unit)[..., 0]
        weights = jnp.where(segments > 0, weights, 0).astype(hidden.dtype)
        return jnp.einsum("bt,btd->bd", weights, hidden)


CLICK_HEADS: dict[str, type[ClickHead]] = {"encoder": ClickHead, "din": DinHead}


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
