"""How hidden states follow each other: one event per step, or stays of explicit duration.

`Chain` is what the recursions know of it. Without durations its cells are the K states. With them a
cell is a state and the number of events still left in the stay (place 0: this event is its last),
and a step costs O(K^2 + K D), not (K D)^2: cells move one place down, and only those at place 0
stop or enter another state. What states emit is in `emissions`.

Reference:
    Yu (2010), "Hidden semi-Markov models", Sec. 2.3 and 3.2 (residual time models).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from recjax.hmm.events import take_rows
from recjax.hmm.parameters import HmmParams


def matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """Product [..., M, N] in full float32; accelerators would round the factors."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def start_rows(params: HmmParams, segments: jax.Array | None) -> jax.Array:
    """Returns p(first state) [B, K] of users of segments [B]; without segments [1, K], of all."""
    start = jnp.asarray(params.start)
    return start[:1] if segments is None else take_rows(start, segments)


def go_on_matrix(params: HmmParams) -> jax.Array:
    """Probability [K, K] of going on from state i (its stay over) and then entering state j."""
    return (1.0 - params.stop)[:, None] * params.transition


@dataclasses.dataclass(frozen=True)
class Chain:
    """The chain of a model; cells are [..., K], with durations [..., K, D]. Traced, not a pytree.

    Attributes:
        params: the model.
        go_on: float32 [K, K], of `go_on_matrix`.
        duration: float32 [K, D], or None.
    """

    params: HmmParams
    go_on: jax.Array
    duration: jax.Array | None

    @classmethod
    def of(cls, params: HmmParams) -> Chain:
        """Returns the chain of a model."""
        duration = None if params.duration is None else jnp.asarray(params.duration)
        return cls(params, go_on_matrix(params), duration)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the cells of one event, (K,) or (K, D)."""
        return (self.params.num_states,) if self.duration is None else self.duration.shape

    def each(self, values: jax.Array) -> jax.Array:
        """Returns values [...] as [..., 1] or [..., 1, 1], to be combined with cells."""
        return values.reshape(values.shape + (1,) * len(self.shape))

    def spread(self, by_state: jax.Array) -> jax.Array:
        """Returns what is known by state [..., K] in a form to be combined with cells."""
        return by_state if self.duration is None else by_state[..., None]

    def total(self, cells: jax.Array) -> jax.Array:
        """Returns the sum [...] over cells."""
        return cells.sum(tuple(range(-len(self.shape), 0)))

    def states(self, cells: jax.Array) -> jax.Array:
        """Returns the sum [..., K] over what is left of the stay."""
        return cells if self.duration is None else cells.sum(-1)

    def leaving(self, cells: jax.Array) -> jax.Array:
        """Returns the cells [..., K] whose stay ends with this event."""
        return cells if self.duration is None else cells[..., 0]

    def enter(self, by_state: jax.Array) -> jax.Array:
        """Returns cells [..., K, D] of stays that begin in a state [..., K] now."""
        if self.duration is None:
            return by_state
        return by_state[..., None] * self.duration[(None,) * (by_state.ndim - 1)]

    def entered(self, arrivals: jax.Array) -> jax.Array:
        """The transpose of `enter`: [..., K] of [..., K, D]."""
        if self.duration is None:
            return arrivals
        return (arrivals * self.duration[(None,) * (arrivals.ndim - 2)]).sum(-1)

    def begin(self, segments: jax.Array | None) -> jax.Array:
        """Returns cells [B, ...] of first events of users of segments [B]; [1, ...] of all."""
        return self.enter(start_rows(self.params, segments))

    def advance(self, cells: jax.Array) -> jax.Array:
        """Returns the cells [..., K(, D)] of the next event, given that a user does not end."""
        moved = self.enter(matmul(self.leaving(cells), self.go_on))
        if self.duration is None:
            return moved
        return moved + jnp.concatenate([cells[..., 1:], jnp.zeros_like(cells[..., :1])], axis=-1)

    def retreat(self, arrivals: jax.Array) -> jax.Array:
        """The transpose of `advance`: cells [..., K(, D)] of those of the next event."""
        left = matmul(self.entered(arrivals), self.go_on.T)
        if self.duration is None:
            return left
        return jnp.concatenate([left[..., None], arrivals[..., :-1]], axis=-1)

    def end(self, cells: jax.Array) -> jax.Array:
        """Returns the probability [...] that the user ends with this event."""
        leaving = self.leaving(cells)
        return (leaving * self.params.stop[(None,) * (leaving.ndim - 1)]).sum(-1)

    def end_cells(self) -> jax.Array:
        """Returns the probability [K(, D)] of ending in every cell."""
        stop = jnp.asarray(self.params.stop)
        return stop if self.duration is None else jnp.zeros(self.shape).at[:, 0].set(stop)
