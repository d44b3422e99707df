"""Several outcomes of table rows at once: will it be clicked, put into the cart, bought?

Called by the trainer through the task interface (see `recjax.tasks`), and by evaluation through
`scores`. Parameters are {"head": of `recjax.models.ctr.CtrModel`}, and "balance" where the weights
of the outcomes are learned.
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.losses import sigmoid_cross_entropy
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.row_click import RowClick

BALANCES = ("fixed", "uncertainty")


@dataclasses.dataclass(frozen=True)
class RowOutcomes(RowClick):
    """Prediction of K outcomes from the features of a row; labels are [B, K].

    Attributes:
        outcomes: names.
        weights: of their losses; one of 0 is not learned at all, so that (1, 0) is a single task.
        balance: "fixed", or "uncertainty": weights are exp(-s) of a learned s each, and s / 2 is
            added, so that what cannot be learned well counts less.
        order_weight: of the loss on an outcome held likelier than the one before it, for heads
            of ordered outcomes that do not know it (aitm).

    Raises:
        ValueError: if a setting is out of range, naming it.

    Reference:
        Kendall, Gal and Cipolla (2018), "Multi-Task Learning Using Uncertainty to Weigh Losses",
        Eq. 7; Xi et al. (2021), "AITM", Eq. 8, for the order.
    """

    outcomes: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    balance: str = "fixed"
    order_weight: float = 0.6
    name: ClassVar[str] = "row_outcomes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        if self.balance not in BALANCES:
            raise ValueError(f"balance = {self.balance!r}; known: {', '.join(BALANCES)}")
        if len(self.weights) != len(self.outcomes):
            raise ValueError(f"weights = {self.weights}; give one of each of {self.outcomes}")
        if min(self.weights) < 0 or not any(self.weights) or self.order_weight < 0:
            raise ValueError(f"weights = {self.weights}; give none below 0, and one above")
        if self.model.num_outcomes != len(self.outcomes):
            raise ValueError(f"the model has {self.model.num_outcomes} outcomes")

    @property
    def learned(self) -> tuple[int, ...]:
        """Numbers of the outcomes that are learned."""
        return tuple(k for k, weight in enumerate(self.weights) if weight)

    def scores(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Computes the log-odds of every outcome, float32 [B, K]; arguments as for `loss`."""
        del constants
        return self._apply(params, batch, None)[0]

    def _judge(
        self, params: Params, logits: jax.Array, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The loss of each outcome that is learned: {"row_outcomes_NAME": (sum, weight)}."""
        losses = {}
        for k in self.learned:
            label = batch["label"][:, k]
            total, rows = sigmoid_cross_entropy(logits[:, k], label, batch["weight"])
            if "balance" in params:
                spread = params["balance"][k]
                total = total * jnp.exp(-spread) + rows * spread / 2
            losses[f"{self.name}_{self.outcomes[k]}"] = self.weights[k] * total, rows
        if self._keeps_order:
            losses[f"{self.name}_order"] = self._order_loss(logits, batch["weight"])
        return losses

    @property
    def _keeps_order(self) -> bool:
        whole = len(self.learned) == len(self.outcomes) > 1
        return whole and self.model.head == "aitm" and self.order_weight > 0

    def _order_loss(self, logits: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        chances = jax.nn.sigmoid(logits)
        beyond = jax.nn.relu(chances[:, 1:] - chances[:, :-1]).sum(axis=1)
        return self.order_weight * (beyond * weight).sum(), weight.sum()

    def _init_boxed(self, key: jax.Array) -> Any:
        params = cast(dict[str, Any], super()._init_boxed(key))
        if self.balance == "uncertainty":
            params["balance"] = jnp.zeros(len(self.outcomes))
        return params
