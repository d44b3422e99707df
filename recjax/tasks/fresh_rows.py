"""Any task of sequences, a share of whose rows holds users that are drawn anew in every step.

Called by the trainer through the task interface (see `recjax.tasks`). The draws are
`recjax.expansion.fresh_users`'s; a judge looks at the task within.
"""

import dataclasses
from typing import Any, cast

import jax

from recjax.expansion.fresh_users import FreshUsers, replace_rows
from recjax.models import fold_in_rows, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import EncoderTask
from recjax.tasks.parameters import Batch, Params


@dataclasses.dataclass(frozen=True)
class FreshRows:
    """A task, and how much of its training batches is drawn.

    Attributes:
        task: reads users packed in rows.
        share: chance of a row to be drawn, above 0 and at most 1.
        users_per_row: most users drawn for a row.

    Raises:
        ValueError: if a setting is out of range.
    """

    task: EncoderTask
    share: float
    users_per_row: int

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")
        if self.users_per_row < 1:
            raise ValueError(f"users_per_row must be at least 1, got {self.users_per_row}")

    @property
    def name(self) -> str:
        """Of the task within."""
        return self.task.name

    @property
    def held(self) -> tuple[str, ...]:
        """Rules of parameters that the task within holds still."""
        return self.task.held

    def init(self, key: jax.Array, batch: Batch | None = None) -> Params:
        """Returns fresh parameters of the task within."""
        return self.task.init(key, batch)

    def logical_axes(self) -> Any:
        """Returns the tree of `PartitionSpec` of the task within."""
        return self.task.logical_axes()

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: dict[str, Any],
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the losses of the task within, on a batch some rows of which are drawn.

        Args:
            params: of the task within.
            batch: as it takes it, items etc. [B, T].
            constants: as it takes them, and "fresh", a `FreshUsers`.
            keys: typed PRNG keys [B], or None: no row is drawn.
            train: whether this is training (static); elsewhere no row is drawn.
        """
        if train and keys is not None:
            batch = self.draw(batch, cast(FreshUsers, constants["fresh"]), keys)
        return self.task.loss(params, batch, constants, keys=keys, train=train)

    def draw(self, batch: Batch, fresh: FreshUsers, keys: jax.Array) -> Batch:
        """Returns the batch with its share of rows drawn; row b depends on keys[b] alone."""
        chosen = row_uniform(keys, row_draws.FRESH_CHOICE, ()) < self.share
        rows = fresh.draw_rows(
            fold_in_rows(keys, row_draws.FRESH_USERS),
            length=batch["items"].shape[1],
            users_per_row=self.users_per_row,
        )
        return replace_rows(batch, rows, chosen)
