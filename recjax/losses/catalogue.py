"""The loss of item targets over a catalogue: full softmax, sampled softmax or generalised BCE.

A table cut over devices is not gathered by any of them. Called by `recjax.tasks`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.losses.cross_entropy import chunked_cross_entropy
from recjax.losses.negatives import PROPOSALS, draw_negatives
from recjax.losses.sampled import gbce_beta, generalised_bce, sampled_cross_entropy
from recjax.models.item_axis import look_up

LOSSES = ("full", "sampled", "gbce")


@dataclasses.dataclass(frozen=True)
class CatalogueLoss:
    """Settings of the loss; the names are those of a training section of the config.

    Attributes:
        loss: "full": softmax over all items; "sampled": softmax over the target and draws, with
            logQ correction; "gbce": binary, the target against draws.
        loss_chunk: full: most items whose logits exist at once, for an eighth as many tokens.
        num_negatives: others: K, draws per row of the batch, shared by the targets of a row.
        negative_proposal: others: "uniform" or "log_uniform", see `draw_negatives`.
        gbce_calibration: gbce: t in [0, 1], see `gbce_beta`.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    loss: str = "full"
    loss_chunk: int = 1024
    num_negatives: int = 256
    negative_proposal: str = "uniform"
    gbce_calibration: float = 0.75

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("negative_proposal", PROPOSALS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for name in ("loss_chunk", "num_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.gbce_calibration <= 1:
            raise ValueError(f"gbce_calibration must be in [0, 1], got {self.gbce_calibration}")

    def __call__(
        self,
        hidden: jax.Array,
        table: jax.Array,
        bias: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        *,
        keys: jax.Array,
        num_ids: int,
        num_specials: int = 5,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (sum of nats, sum of weights); targets below `num_specials` get weight 0.

        Args:
            hidden: float32 or bfloat16 [B, S, D]; sums are float32.
            table: float32 [V, D], item embeddings.
            bias: float32 [V].
            targets: int32 [B, S], item ids.
            weights: float32 [B, S], 0 for slots without a target.
            keys: typed PRNG keys [B] of the draws; "full" uses none.
            num_ids: ids from here on are no items (static).
            num_specials: nor are ids below this (static).
        """
        if self.loss == "full":
            rows = hidden.reshape(-1, hidden.shape[-1])
            flat = (targets.reshape(-1), weights.reshape(-1))
            return chunked_cross_entropy(
                rows, table, bias, *flat, chunk=self.loss_chunk, num_specials=num_specials
            )
        weights = jnp.where(targets >= num_specials, weights, 0).astype(jnp.float32)
        negatives, log_expected = draw_negatives(
            keys,
            self.num_negatives,
            num_ids=num_ids,
            proposal=self.negative_proposal,
            num_specials=num_specials,
        )
        positive, negative = _logits(hidden, table, bias, targets, negatives)
        hits = targets[:, :, None] == negatives[:, None, :]
        if self.loss == "sampled":
            return sampled_cross_entropy(positive, negative, log_expected, hits, weights)
        beta = gbce_beta(self.num_negatives, num_ids - num_specials, self.gbce_calibration)
        return generalised_bce(positive, negative, hits, weights, beta=beta)


def _logits(
    hidden: jax.Array, table: jax.Array, bias: jax.Array, targets: jax.Array, negatives: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Logits float32 [B, S] of targets [B, S] and [B, S, K] of negatives [B, K]."""
    num_targets = targets.shape[1]
    ids = jnp.concatenate([targets, negatives], axis=1)  # one look-up for both: one collective
    rows = look_up(table, ids).astype(hidden.dtype)
    biases = look_up(bias[:, None], ids)[..., 0]
    positive = jnp.einsum(
        "bsd,bsd->bs", hidden, rows[:, :num_targets], preferred_element_type=jnp.float32
    )
    negative = jnp.einsum(
        "bsd,bkd->bsk", hidden, rows[:, num_targets:], preferred_element_type=jnp.float32
    )
    return positive + biases[:, :num_targets], negative + biases[:, None, num_targets:]
