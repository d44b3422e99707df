"""The click tower that all click heads share: a shown item, a history, the moment.

Called by `recjax.models.click_heads`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.dropout import dropout
from recjax.models.embeddings import Table
from recjax.models.initialisers import kernel_init, partitioned

_CONTEXT_DIM = 8
_TOWER_SITE = 1 << 20  # beyond every site of the encoder
_NO_SCORE = -1e30  # of an event that is not there


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
        num_heads: of attention, where a head has its own.
        search_len: events that a head which searches looks at.
    """

    hidden_dims: tuple[int, ...]
    num_gap_bins: int
    num_positions: int
    dropout_rate: float
    dtype: jnp.dtype
    num_heads: int = 2
    search_len: int = 20
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
            batch: segments int32 [B, T]; alike bool [B, T], events of the candidate's category;
                candidate_gap, hour, weekday, position int32 [B].
            keys: typed PRNG keys [B] for dropout, or None.

        Returns:
            float32 [B], log-odds of a click.
        """
        candidate = nn.LayerNorm(dtype=self.dtype, name="candidate_norm")(candidate)
        attended = self._attend_to_history(hidden, candidate, batch, keys)
        pairs = (attended * candidate, pooled * candidate)
        parts = (attended, pooled, candidate, *pairs, *self._context(batch))
        x = jnp.concatenate([part.astype(self.dtype) for part in parts], axis=-1)
        for index, width in enumerate(self.hidden_dims):
            x = nn.gelu(self._dense(width, f"tower_{index}")(x))
            x = dropout(x, self.dropout_rate, keys, site=_TOWER_SITE + index)
        return self._dense(1, "logit")(x)[:, 0].astype(jnp.float32)

    def _attend_to_history(
        self,
        hidden: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """History weighted by its likeness to the candidate, float [B, D]; 0 without history."""
        del keys
        weights = self._likeness(hidden, candidate, batch["segments"])
        return jnp.einsum("bt,btd->bd", weights, hidden)

    def _likeness(self, hidden: jax.Array, candidate: jax.Array, segments: jax.Array) -> jax.Array:
        """Softmax over the history of query(candidate) . event, [B, T]; 0 on padding."""
        query = self._dense(hidden.shape[-1], "candidate_query")(candidate)
        scores = jnp.einsum("bd,btd->bt", query, hidden, preferred_element_type=jnp.float32)
        scores = jnp.where(segments > 0, scores * hidden.shape[-1] ** -0.5, _NO_SCORE)
        weights = jnp.where(segments > 0, jax.nn.softmax(scores, axis=-1), 0)
        return weights.astype(hidden.dtype)

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
