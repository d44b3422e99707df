"""New users in every step: drawn by the fitted HMM on the device, in place of rows of the batch.

Nothing is stored and no user comes twice, so neither the gate nor the report card sees these draws.
Pure and traceable; called by `recjax.tasks` inside of the step. The generators are fitted in the
expand stage, which can also store draws that were judged (the strategy `hmm_users`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from recjax import hmm
from recjax.expansion.generate.generator import GeneratorState

FIELDS = ("items", "actions", "gaps", "positions", "segments", "weights")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FreshUsers:
    """A generator as what draws read; one of several members has a leading axis M everywhere.

    Attributes:
        tables: of the HMM over item indices 0..N - 1.
        item_ids: int32 [N], item id of every index.
        no_repeats: no item twice in one user; static.
    """

    tables: hmm.SamplingTables
    item_ids: jax.Array | np.ndarray
    no_repeats: bool = field(default=False, metadata={"static": True})

    def draw_rows(
        self, keys: jax.Array, *, length: int, users_per_row: int
    ) -> dict[str, jax.Array]:
        """Draws rows of users, packed one behind another as far as they fit whole.

        Args:
            keys: typed PRNG keys [B]; row b depends on keys[b] alone.
            length: T, static; users of more events end there.
            users_per_row: static; most users of a row.

        Returns:
            `FIELDS` [B, T], as of a batch of real users; weights are float32, others int32.
        """
        numbers = jnp.arange(users_per_row, dtype=jnp.int32)

        def row(key: jax.Array) -> dict[str, jax.Array]:
            events, _ = hmm.draw_users(
                key, self.tables, numbers, max_len=length, no_repeats=self.no_repeats
            )
            return _pack(events, jnp.asarray(self.item_ids))

        return jax.vmap(row)(keys)


def stack_fresh_users(states: Sequence[GeneratorState]) -> FreshUsers:
    """Returns the generators of M members, fitted on the same users, with a leading axis M."""
    members = [
        FreshUsers(state.tables, state.item_ids, state.config.no_repeats) for state in states
    ]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *members)


def replace_rows(
    batch: Mapping[str, jax.Array], fresh: Mapping[str, jax.Array], chosen: jax.Array
) -> dict[str, jax.Array]:
    """Returns the batch with fresh rows [B, T] where `chosen` bool [B] says so."""
    rows = {name: jnp.where(chosen[:, None], fresh[name], batch[name]) for name in FIELDS}
    return {**batch, **rows}


def _pack(events: hmm.Events, item_ids: jax.Array) -> dict[str, jax.Array]:
    """Returns users [P, T] one behind another in a row [T]; those that do not fit are left out."""
    num_users, length = events.items.shape
    starts = jnp.cumsum(events.lengths) - events.lengths
    steps = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], events.items.shape)
    fits = (starts + events.lengths <= length)[:, None] & (steps < events.lengths[:, None])
    places = jnp.where(fits, starts[:, None] + steps, length)
    numbers = jnp.arange(1, num_users + 1, dtype=jnp.int32)[:, None]
    grids = {
        "items": jnp.take(item_ids, events.items),
        "actions": events.actions,
        "gaps": events.gaps,
        "positions": steps,
        "segments": jnp.broadcast_to(numbers, events.items.shape),
        "weights": jnp.ones(events.items.shape, jnp.float32),
    }
    return {
        name: jnp.zeros(length, grid.dtype).at[places].set(grid, mode="drop")
        for name, grid in grids.items()
    }
