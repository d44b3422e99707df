"""The registry of click heads: how each reads the history that the tower of all of them sees.

They read it encoded (by the encoder's blocks) or as it is embedded, and differ in their attention.
Called by `recjax.tasks.click`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.blocks import BodyConfig, TransformerBlock
from recjax.models.click_tower import ClickHead
from recjax.models.gru import orthogonal_gates, run_gru
from recjax.models.initialisers import partitioned, table_init
from recjax.models.relative import Relations

INTERESTS = "interests"  # collection in which a head leaves its state after every event
_UNIT_DIM = 36  # of DIN's activation unit


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
        self,
        hidden: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """Weighted sum of the history, float [B, D]; 0 without history."""
        del keys
        return self._weigh(hidden, candidate, batch["segments"] > 0)

    def _weigh(self, hidden: jax.Array, candidate: jax.Array, there: jax.Array) -> jax.Array:
        target = jnp.broadcast_to(candidate[:, None], hidden.shape).astype(hidden.dtype)
        pair = jnp.concatenate([hidden, target, hidden - target, hidden * target], axis=-1)
        unit = nn.relu(self._dense(_UNIT_DIM, "unit_in")(pair))
        weights = self._dense(1, "unit_out")(unit)[..., 0]
        weights = jnp.where(there, weights, 0).astype(hidden.dtype)
        return jnp.einsum("bt,btd->bd", weights, hidden)


class SimHead(DinHead):
    """Search-based interest model, hard search: DIN over the last events like the candidate.

    Of a long history only the last `search_len` events of the candidate's category are weighed, so
    that the unit's work does not grow with the history; without categories, the last events.

    Reference:
        Pi et al. (2020), "Search-based User Interest Modeling with Lifelong Sequential Behavior
        Data", Sec. 3.1, hard search; DIN's unit in place of their multi-head attention.
    """

    def _attend_to_history(
        self,
        hidden: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """Weighted sum of the events found, float [B, D]; 0 where none is."""
        del keys
        found = (batch["segments"] > 0) & batch["alike"]
        place = jnp.where(found, jnp.arange(found.shape[1])[None], -1)
        last, where = jax.lax.top_k(place, min(self.search_len, found.shape[1]))
        kept = jnp.take_along_axis(hidden, where[..., None], axis=1)
        return self._weigh(kept, candidate, last >= 0)


class DienHead(ClickHead):
    """Deep interest evolution network: a GRU over the history, then one that the candidate steers.

    The first GRU's states are left in the collection `INTERESTS`, so that the task can teach each
    of them what came next (their auxiliary loss). In the second one the update gate of an event is
    multiplied by the event's likeness to the candidate (AUGRU); its last state is the interest.

    Reference:
        Zhou et al. (2019), "Deep Interest Evolution Network for Click-Through Rate Prediction",
        Eq. 2 to 5 and 14 to 16.
    """

    encodes: ClassVar[bool] = False

    def _attend_to_history(
        self,
        hidden: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """The interest after the last event, float [B, D]; 0 without history."""
        del keys
        states = self._recur(hidden, "extraction")
        self.sow(INTERESTS, "states", states)
        weights = self._likeness(states, candidate, batch["segments"])
        return self._recur(states, "evolution", weights)[:, -1]

    def _recur(self, x: jax.Array, name: str, strength: jax.Array | None = None) -> jax.Array:
        """States float [B, T, D] of a GRU; an event of strength 0, such as padding, moves none."""
        width = x.shape[-1]
        inputs = self._dense(3 * width, f"{name}_input")(x).reshape(*x.shape[:2], 3, width)
        init = partitioned(orthogonal_gates, (None, None))
        kernel = self.param(f"{name}_recurrent_kernel", init, (width, 3 * width), jnp.float32)
        zeros = nn.initializers.zeros_init()
        bias = self.param(f"{name}_recurrent_bias", zeros, (width,), jnp.float32)
        starts = jnp.zeros(x.shape[:2], bool)  # a row is one history
        kernel = kernel.reshape(width, 3, width)
        return run_gru(inputs, starts, kernel, bias, strength).astype(x.dtype)


class BstHead(ClickHead):
    """Behaviour sequence transformer: the candidate is one more event of the embedded history.

    One transformer block reads history and candidate together. The tower sees the candidate's
    output, where the paper lays the outputs of all events side by side.

    Reference:
        Chen et al. (2019), "Behavior Sequence Transformer for E-commerce Recommendation in
        Alibaba", Sec. 2.2.
    """

    encodes: ClassVar[bool] = False

    def _attend_to_history(
        self,
        hidden: jax.Array,
        candidate: jax.Array,
        batch: dict[str, jax.Array],
        keys: jax.Array | None,
    ) -> jax.Array:
        """The candidate's output among the history, float [B, D]."""
        width = hidden.shape[-1]
        place = self.param("target_place", partitioned(table_init, (None,)), (width,), jnp.float32)
        target = (candidate + place[None]).astype(hidden.dtype)
        x = jnp.concatenate([hidden, target[:, None]], axis=1)
        segments = jnp.pad((batch["segments"] > 0).astype(jnp.int32), ((0, 0), (0, 1)),
                           constant_values=1)  # fmt: skip
        block = TransformerBlock(self._block_config(x.shape[1], width), name="block")
        return block(x, 0, Relations(segments, {}), keys, False)[0][:, -1]

    def _block_config(self, length: int, width: int) -> BodyConfig:
        return BodyConfig(
            num_layers=1,
            hidden_dim=width,
            num_heads=self.num_heads,
            mlp_dim=4 * width,
            max_len=length,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.dropout_rate,
            norm="post",
            dtype=jnp.dtype(self.dtype).name,
        )


CLICK_HEADS: dict[str, type[ClickHead]] = {
    "encoder": ClickHead,
    "din": DinHead,
    "sim": SimHead,
    "dien": DienHead,
    "bst": BstHead,
}
