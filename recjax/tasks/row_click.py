"""Click-through of table rows: will this row, with these features, be a yes?

Called by the trainer through the task interface (see `recjax.tasks`), and by evaluation through
`scores`. Parameters are {"head": of `recjax.models.ctr.CtrModel`}.
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.expansion.on_device import Adversary
from recjax.losses import sigmoid_cross_entropy
from recjax.models import batch_norm
from recjax.models.ctr import CtrConfig, CtrModel
from recjax.tasks.parameters import Batch, Params, WithParams


@dataclasses.dataclass(frozen=True)
class RowClick(WithParams):
    """Click prediction from the features of a row.

    Attributes:
        model: head and sizes.
        adversary: whether training also sees field vectors that are shifted to a higher loss.
        name: of the task, and of its loss.
    """

    model: CtrConfig
    adversary: Adversary = Adversary()
    name: ClassVar[str] = "row_click"
    held: ClassVar[tuple[str, ...]] = ()
    whole_batch: ClassVar[bool] = False

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"row_click": (sum of nats, weight)}.

        Where a head judges in K > 1 streams, the loss is that of their mean, and each stream learns
        from the probability that the mean gives, too: losses "stream_0", ... In training with an
        adversary the same losses come again on shifted inputs, named "..._adversarial".

        Args:
            params: {"head"}.
            batch: ids int32 [B, S], values float32 [B, S] (may be absent: ones), label and weight
                float32 [B].
            constants: not looked at.
            keys: typed PRNG keys [B] for dropout, or None.
            train: whether dropout is on (static).

        Reference:
            Zhu et al. (2023), "FINAL", for streams that teach each other.
        """
        del constants
        keys = keys if train else None
        logits, terms = self._apply(params, batch, keys)
        losses = self._judge(params, logits, batch)
        if terms:  # running statistics, which move by the gradient of a loss that is 0
            total = batch["weight"].sum()
            losses[batch_norm.COLLECTION] = (jnp.stack(terms).sum() * total, total)
        if train and self.adversary.acts:
            shifted = self._judge(params, self._shifted(params, batch, keys), batch)
            losses |= {f"{name}_adversarial": self._weigh(loss) for name, loss in shifted.items()}
        return losses

    @property
    def learned(self) -> tuple[int, ...]:
        """Numbers of the outcomes that are learned."""
        return (0,)

    def scores(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Computes the log-odds of a yes, float32 [B]; arguments as for `loss`."""
        del constants
        return self._apply(params, batch, None)[0].mean(axis=1)

    def _judge(
        self, params: Params, logits: jax.Array, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The losses of logits [B, K]."""
        del params
        weight, mean = batch["weight"], logits.mean(axis=1)
        losses = {self.name: sigmoid_cross_entropy(mean, batch["label"], weight)}
        if logits.shape[1] > 1:
            taught = jax.lax.stop_gradient(jax.nn.sigmoid(mean))
            for number, stream in enumerate(logits.T):
                losses[f"stream_{number}"] = sigmoid_cross_entropy(stream, taught, weight)
        return losses

    def _shifted(self, params: Params, batch: Batch, keys: jax.Array | None) -> jax.Array:
        """Logits [B, K] where the field vectors are shifted to a higher loss, dropout alike."""
        held = jax.lax.stop_gradient(params)

        def loss(shift: jax.Array) -> jax.Array:
            logits, _ = self._apply(held, batch, keys, shift)
            return sigmoid_cross_entropy(logits.mean(axis=1), batch["label"], batch["weight"])[0]

        variables, inputs = {"params": held["head"]}, (batch["ids"], batch.get("values"))
        fields = CtrModel(self.model).apply(variables, *inputs, method="embed")
        shift = self.adversary.shift(loss, cast(jax.Array, fields))
        return self._apply(params, batch, keys, shift)[0]

    def _weigh(self, loss: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return loss[0] * self.adversary.weight, loss[1]

    def _apply(
        self,
        params: Params,
        batch: Batch,
        keys: jax.Array | None,
        shift: jax.Array | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Returns logits float32 [B, K] and the terms of the layers that keep statistics."""
        inputs = ({"params": params["head"]}, batch["ids"], batch.get("values"), keys, shift)
        logits, sown = CtrModel(self.model).apply(*inputs, mutable=[batch_norm.COLLECTION])
        return cast(jax.Array, logits), jax.tree.leaves(sown)

    def _init_boxed(self, key: jax.Array) -> Any:
        slots = jnp.zeros((1, sum(self.model.slots)), jnp.int32)
        return {"head": CtrModel(self.model).init(key, slots, None)["params"]}
