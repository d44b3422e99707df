"""A weighted mixture of objectives over one shared encoder; a single objective is a mixture of one.

Exactly one of them predicts items: it decides how the encoder reads (`MaskedItem` from both sides,
`NextItem` causally), and its output layer ranks the catalogue when pretraining is judged. Called
by the trainer through the task interface (see `recjax.tasks`), and by evaluation, which ranks
`queries` against `item_table`.
"""

import dataclasses
import zlib
from typing import Any, ClassVar

import jax

from recjax.tasks.encoder_task import EncoderTask
from recjax.tasks.masked_item import MaskedItem
from recjax.tasks.next_item import NextItem
from recjax.tasks.parameters import Batch, Params


@dataclasses.dataclass(frozen=True)
class Mixture(EncoderTask):
    """Several objectives trained at once; parameters {"encoder", "head": {objective: its head}}.

    Further encoders that objectives ask for stand beside the two, one for all that ask.

    Attributes:
        objectives: each with the mixture's encoder, names distinct.
        weights: of the objectives in the loss, above 0.

    Raises:
        ValueError: if a weight is not above 0, or not exactly one objective is masked_item or
            next_item.
    """

    objectives: tuple[EncoderTask, ...]
    weights: tuple[float, ...]
    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        for objective, weight in zip(self.objectives, self.weights, strict=True):
            if not weight > 0:
                raise ValueError(f"the weight of {objective.name} must be above 0, got {weight}")
        found = [task.name for task in self.objectives if isinstance(task, MaskedItem | NextItem)]
        if len(found) != 1:
            raise ValueError(
                f"exactly one of masked_item (reads from both sides) and next_item (reads "
                f"causally) must be among the objectives, found {' and '.join(found) or 'none'}"
            )

    @property
    def item_objective(self) -> MaskedItem | NextItem:
        """The objective that predicts items."""
        return next(task for task in self.objectives if isinstance(task, MaskedItem | NextItem))

    @property
    def causal(self) -> bool:
        """Whether the encoder reads causally."""
        return self.item_objective.causal

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {objective: (sum, weight)}; sums are scaled by the mixture's weights.

        So the mean of each is its share of the total, not its own nats where its weight is not 1.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: arrays by item id that the objectives look up.
            keys: typed PRNG keys [B], or None.
            train: whether dropout is on (static).
        """
        losses: dict[str, tuple[jax.Array, jax.Array]] = {}
        for objective, weight in zip(self.objectives, self.weights, strict=True):
            part = self._part(params, objective)
            found = objective.loss(part, batch, constants, keys=keys, train=train)
            losses |= {name: (weight * total, count) for name, (total, count) in found.items()}
        return losses

    def queries(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Encodes histories into one query per row, float32 [B, D]: see `NextItem.queries`."""
        return NextItem(self.encoder, causal=self.causal).queries(params, batch, constants)

    def item_table(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Returns the output layer: table float32 [V, D] and the item objective's bias [V]."""
        return self.item_objective.item_table(self._part(params, self.item_objective))

    def _part(self, params: Params, objective: EncoderTask) -> Params:
        return {**params, "head": params["head"][objective.name]}

    def _init_towers(self, key: jax.Array) -> Params:
        return {name: t for task in self.objectives for name, t in task._init_towers(key).items()}

    def _init_head(self, key: jax.Array) -> Any:
        """Each head from its objective's name: the others in the mixture do not change it."""
        return {
            task.name: task._init_head(jax.random.fold_in(key, zlib.crc32(task.name.encode())))
            for task in self.objectives
        }
