"""Click-through: will this user, with this history, click this shown item in this context?

Called by the trainer through the task interface (see `recjax.tasks`), and by evaluation through
`scores`.
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.expansion.on_device import Adversary
from recjax.losses import sigmoid_cross_entropy
from recjax.models import CLICK_HEADS, ClickHead
from recjax.tasks.encoder_task import EncoderTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import is_last


@dataclasses.dataclass(frozen=True)
class Click(EncoderTask):
    """Click prediction from an encoded history, a candidate and its context.

    Attributes:
        hidden_dims: widths of the tower.
        head: one of `recjax.models.CLICK_HEADS`.
        causal: how the encoder reads the history; as it was pretrained. Causal pools by the last
            hidden state, bidirectional by their mean.
        num_positions: display positions with an embedding of their own.
        adversary: whether training also sees embedded histories shifted to a higher loss.

    Raises:
        ValueError: if the encoder cannot read in this direction, or there is no such head.
    """

    hidden_dims: tuple[int, ...] = (64, 32)
    causal: bool = False
    num_positions: int = 32
    adversary: Adversary = Adversary()
    head: str = "encoder"
    name: ClassVar[str] = "click"

    def __post_init__(self) -> None:
        self.encoder.check_direction(self.causal)
        if self.head not in CLICK_HEADS:
            raise ValueError(f"head {self.head!r} is unknown; known: {', '.join(CLICK_HEADS)}")
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"click": (sum of nats, weight)}, in training with an adversary another.

        "click_adversarial" is the same loss with the embedded history shifted, dropout alike.

        Args:
            params: {"encoder", "head"}.
            batch: as for `scores`, and label, weight float32 [B].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B] for dropout, or None.
            train: whether dropout is on (static).
        """
        keys = keys if train else None

        def loss(params: Params, shift: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            logits = self._logits(params, batch, constants, keys, shift)
            return sigmoid_cross_entropy(logits, batch["label"], batch["weight"])

        losses = {self.name: loss(params, None)}
        if train and self.adversary.acts:
            held = jax.lax.stop_gradient(params)
            history = self._call_encoder(held, "embed", batch, constants)
            shift = self.adversary.shift(lambda shift: loss(held, shift)[0], history)
            total, weight = loss(params, shift)
            losses[f"{self.name}_adversarial"] = total * self.adversary.weight, weight
        return losses

    def scores(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        fixed_position: int | None = None,
    ) -> jax.Array:
        """Computes the log-odds of a click.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T] (the history);
                candidate, candidate_gap, hour (0-23), weekday (0-6), position int32 [B].
            constants: item_category int32 [V] where "category" is an input.
            fixed_position: display position assumed for every row, for scores that do not depend on
                where an item was shown (static); None takes the batch's.

        Returns:
            float32 [B].
        """
        if fixed_position is not None:
            position = jnp.full_like(batch["candidate"], fixed_position)
            batch = batch | {"position": position}
        return self._logits(params, batch, constants, None)

    def _logits(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        keys: jax.Array | None,
        shift: jax.Array | None = None,
    ) -> jax.Array:
        x = self._call_encoder(params, "embed", batch, constants)
        x = x if shift is None else x + shift
        hidden = x
        if CLICK_HEADS[self.head].encodes:
            hidden = self._call_encoder(params, "encode", x, batch, self.causal, keys)
        counts = is_last(batch["segments"]) if self.causal else batch["segments"] > 0
        counts = counts.astype(hidden.dtype)
        pooled = (hidden * counts[..., None]).sum(axis=1)
        pooled = pooled / jnp.maximum(counts.sum(axis=1), 1)[:, None]
        candidate = self._call_encoder(params, "embed_items", batch["candidate"], constants)
        logits = self._head().apply(
            {"params": params["head"]}, hidden, pooled, candidate, batch, keys
        )
        return cast(jax.Array, logits)

    def _head(self) -> ClickHead:
        return CLICK_HEADS[self.head](
            hidden_dims=self.hidden_dims,
            num_gap_bins=self.encoder.num_gap_bins,
            num_positions=self.num_positions,
            dropout_rate=self.encoder.dropout_rate,
            dtype=jnp.dtype(self.encoder.dtype),
        )

    def _init_head(self, key: jax.Array) -> Any:
        width = self.encoder.hidden_dim
        vector, ids = jnp.zeros((1, width)), jnp.zeros(1, jnp.int32)
        names = ("candidate_gap", "hour", "weekday", "position")
        batch = {"segments": jnp.zeros((1, 2), jnp.int32), **{name: ids for name in names}}
        hidden = jnp.zeros((1, 2, width))
        return self._head().init(key, hidden, vector, vector, batch)["params"]
