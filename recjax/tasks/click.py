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
from recjax.losses.negatives import draw_negatives
from recjax.models import CLICK_HEADS, INTERESTS, ClickHead, fold_in_rows
from recjax.tasks import row_draws
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
        num_heads: of a head's own attention (bst).
        search_len: events of the candidate's category that are looked at (sim).
        interest_weight: of the loss that teaches each state of the history what came next (dien).

    Raises:
        ValueError: if the encoder cannot read in this direction, or there is no such head.
    """

    hidden_dims: tuple[int, ...] = (64, 32)
    causal: bool = False
    num_positions: int = 32
    adversary: Adversary = Adversary()
    head: str = "encoder"
    num_heads: int = 2
    search_len: int = 20
    interest_weight: float = 1.0
    name: ClassVar[str] = "click"

    def __post_init__(self) -> None:
        self.encoder.check_direction(self.causal)
        if self.head not in CLICK_HEADS:
            raise ValueError(f"head {self.head!r} is unknown; known: {', '.join(CLICK_HEADS)}")
        if self.head == "bst" and self.encoder.hidden_dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide model.hidden_dim")
        if self.search_len < 1 or self.interest_weight < 0:
            raise ValueError("give a search_len of at least 1, an interest_weight of at least 0")
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
        """Returns {"click": (sum of nats, weight)}, and in training what head and adversary add.

        "click_adversarial" is the same loss with the embedded history shifted, dropout alike;
        "click_interest" that of telling, from each state of the head's first recurrence, the next
        item from a drawn one.

        Args:
            params: {"encoder", "head"}.
            batch: as for `scores`, and label, weight float32 [B].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B] for dropout, or None.
            train: whether dropout is on (static).

        Reference:
            Zhou et al. (2019), "Deep Interest Evolution Network", Eq. 7, for what states learn.
        """
        keys = keys if train else None

        def loss(params: Params, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, _ = self._apply(params, batch, constants, keys, shift)
            return sigmoid_cross_entropy(logits, batch["label"], batch["weight"])

        logits, states = self._apply(params, batch, constants, keys)
        losses = {self.name: sigmoid_cross_entropy(logits, batch["label"], batch["weight"])}
        if train and states and self.interest_weight:
            total, weight = self._interest_loss(params, batch, constants, states[0], keys)
            losses[f"{self.name}_interest"] = total * self.interest_weight, weight
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
        return self._apply(params, batch, constants, None)[0]

    def _apply(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        keys: jax.Array | None,
        shift: jax.Array | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Returns logits float32 [B] and, of some heads, a state [B, T, D] after each event."""
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
        variables = {"params": params["head"]}
        inputs = (hidden, pooled, candidate, batch | self._alike(batch, constants), keys)
        logits, sown = self._head().apply(variables, *inputs, mutable=[INTERESTS])
        return cast(jax.Array, logits), jax.tree.leaves(sown)

    def _alike(self, batch: Batch, constants: Batch) -> Batch:
        """Which events are of the candidate's category; where there are no categories, all."""
        if "item_category" not in constants:
            return {"alike": batch["segments"] > 0}
        of_items, of_candidate = (
            jnp.take(constants["item_category"], batch[name], mode="clip")
            for name in ("items", "candidate")
        )
        return {"alike": of_items == of_candidate[:, None]}

    def _interest_loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        states: jax.Array,
        keys: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Sum of nats and weight: the next item against one drawn evenly, event by event."""
        keys = row_draws.content_keys(batch["items"]) if keys is None else keys
        keys = fold_in_rows(keys, row_draws.NEGATIVES)
        came, segments = batch["items"][:, 1:], batch["segments"]
        count, num_ids = came.shape[1], self.encoder.vocab_size
        drawn, _ = draw_negatives(keys, count, num_ids=num_ids, proposal="uniform")

        def score(items: jax.Array) -> jax.Array:
            vectors = self._call_encoder(params, "embed_items", items, constants)
            return jnp.einsum("btd,btd->bt", states[:, :-1].astype(vectors.dtype), vectors)

        nats = jax.nn.softplus(-score(came)) + jax.nn.softplus(score(drawn))
        weight = ((segments[:, 1:] > 0) & (segments[:, 1:] == segments[:, :-1])).astype(nats.dtype)
        weight = weight * batch["weight"][:, None]
        return (nats * weight).sum(), weight.sum()

    def _head(self) -> ClickHead:
        return CLICK_HEADS[self.head](
            hidden_dims=self.hidden_dims,
            num_gap_bins=self.encoder.num_gap_bins,
            num_positions=self.num_positions,
            dropout_rate=self.encoder.dropout_rate,
            dtype=jnp.dtype(self.encoder.dtype),
            num_heads=self.num_heads,
            search_len=self.search_len,
        )

    def _init_head(self, key: jax.Array) -> Any:
        width = self.encoder.hidden_dim
        vector, ids = jnp.zeros((1, width)), jnp.zeros(1, jnp.int32)
        names = ("candidate_gap", "hour", "weekday", "position")
        batch = {"segments": jnp.zeros((1, 2), jnp.int32), **{name: ids for name in names}}
        batch["alike"] = jnp.zeros((1, 2), bool)
        hidden = jnp.zeros((1, 2, width))
        return self._head().init(key, hidden, vector, vector, batch)["params"]
