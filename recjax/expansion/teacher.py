"""The fitted generator as a teacher: its distribution of the next item softens a model's targets.

The cross-entropy of a model's softmax against a distribution is linear in it but for the
normaliser, so that all a loss needs of the teacher is the mean of the item vectors under it.
Called by `recjax.tasks` inside of the step; the generators are fitted in the expand stage.

Reference:
    Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Teacher:
    """A generator as arrays; one of several members has a leading axis M everywhere.

    Attributes:
        params: the HMM over item indices 0..N - 1.
        item_ids: int32 [N], item id of every index.
        item_index: int32 [V], index of every item id, -1 for ids that it does not know.
    """

    params: hmm.HmmParams
    item_ids: jax.Array | np.ndarray
    item_index: jax.Array | np.ndarray

    def expected_rows(self, batch: Mapping[str, jax.Array], table: jax.Array) -> jax.Array:
        """Returns the mean row under the teacher's next item, float32 [B, T, D].

        Args:
            batch: items, actions, gaps, positions, segments int32 [B, T].
            table: float [N, D], a row per index.
        """
        real, segments = batch["segments"] > 0, batch["segments"]
        follows = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
        layout = hmm.Layout(
            items=jnp.take(self.item_index, batch["items"], mode="clip"),
            actions=batch["actions"],
            gaps=batch["gaps"],
            positions=jnp.where(real, batch["positions"], -1),
            lasts=real & (segments != follows),
        )
        return hmm.expected_next_rows(self.params, layout, table, leave_out=True)


def stack_teachers(states: Sequence[GeneratorState], num_rows: int) -> Teacher:
    """Returns the generators of M members, fitted on the same users, with a leading axis M.

    Args:
        states: one per member.
        num_rows: V, rows of the model's item table.
    """
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(_teacher(s, num_rows) for s in states))


def _teacher(state: GeneratorState, num_rows: int) -> Teacher:
    index = np.full(num_rows, -1, np.int32)
    index[state.item_ids] = np.arange(len(state.item_ids))
    return Teacher(jax.tree.map(np.asarray, state.params), state.item_ids, index)
