"""Models of several sizes as one: padded to the same K, stacked on a leading axis M, for vmap.

A smaller model is padded with dead states (see `counts.Prior`). What members have in common, the
pairs of the kernel above all, is held once. Fitting them is in `restarts`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import Counts, Prior, estimate, log_prior, zero_counts
from recjax.hmm.events import Array, Layout
from recjax.hmm.expectation import WHOLE, RowPlan, add_counts
from recjax.hmm.parameters import HmmParams
from recjax.hmm.passes import layout_log_likelihood

# Axes over states of every table that has some; a table not named here is common to all members.
_STATE_AXES = {
    "start": (1,),
    "transition": (0, 1),
    "stop": (0,),
    "action": (0,),
    "gap": (0,),
    "mix": (0,),
    "duration": (0,),
    "items.table": (1,),
    "items.category": (0,),
    "items.weights": (1,),
}
_OF_MEMBERS = (*_STATE_AXES, "items.item_in_category", "kernel.lags")  # on the leading axis
_PRIOR_AXES = Prior(smoothing=None, items=None, alive=0)  # type: ignore[arg-type]


def stack_members(models: Sequence[HmmParams]) -> HmmParams:
    """Returns models of one family, padded and stacked; own tables [M, ...], others once.

    What is common (the kernel's pairs, the items' categories or features) is taken from the first.
    """
    num_states = max(model.num_states for model in models)
    padded = [_padded(model, num_states) for model in models]

    def stack(path: Any, *leaves: Array) -> jax.Array:
        return jnp.asarray(np.stack(leaves) if _is_own(path) else leaves[0])

    return jax.tree.map_with_path(stack, *padded)


def take_member(members: HmmParams, index: int, num_states: int | None = None) -> HmmParams:
    """Returns member `index`, cut to its own number of states (None: as padded)."""

    def take(path: Any, leaf: jax.Array) -> jax.Array:
        if not _is_own(path):
            return leaf
        cut: list[slice] = [slice(None)] * (leaf.ndim - 1)
        for axis in _STATE_AXES.get(_name(path), ()):
            cut[axis] = slice(num_states)
        return leaf[(index, *cut)]

    return jax.tree.map_with_path(take, members)


def select_members(mask: Array, chosen: HmmParams, others: HmmParams) -> HmmParams:
    """Returns members of `chosen` where mask [M] is True, of `others` elsewhere."""

    def select(path: Any, left: jax.Array, right: jax.Array) -> jax.Array:
        if not _is_own(path):
            return left
        return jnp.where(jnp.asarray(mask).reshape(-1, *[1] * (left.ndim - 1)), left, right)

    return jax.tree.map_with_path(select, chosen, others)


@jax.jit
def zero_member_counts(members: HmmParams) -> Counts:
    """Returns counts of nothing [M, ...]."""
    size = members.start.shape[0]
    return jax.vmap(zero_counts, in_axes=(_axes(members),), axis_size=size)(members)


@functools.partial(jax.jit, donate_argnums=0, static_argnames="plan")
def add_member_counts(
    counts: Counts, members: HmmParams, layout: Layout, *, plan: RowPlan = WHOLE
) -> tuple[Counts, jax.Array]:
    """Adds the expected counts of a batch [B, T] for every member; log-likelihoods [M] beside.

    Lookups that do not depend on the member, those of the kernel, are done once. `plan` is
    that of `add_counts`.
    """
    add = functools.partial(add_counts, plan=plan)
    return jax.vmap(add, in_axes=(0, _axes(members), None))(counts, members, layout)


@jax.jit
def estimate_members(
    members: HmmParams, counts: Counts, prior: Prior, active: Array
) -> tuple[HmmParams, jax.Array]:
    """Returns the M-step of every member that is active [M], and the log priors [M] before it."""
    axes = _axes(members)
    before = jax.vmap(log_prior, in_axes=(axes, _PRIOR_AXES))(members, prior)
    stepped = jax.vmap(estimate, in_axes=(axes, 0, _PRIOR_AXES), out_axes=axes)(
        members, counts, prior
    )
    return select_members(active, stepped, members), before


@jax.jit
def member_log_likelihood(members: HmmParams, layout: Layout) -> jax.Array:
    """Returns the log-likelihood [M] of users [B, T] that the kernel was not counted from."""
    value = functools.partial(layout_log_likelihood, leave_out=False)
    return jax.vmap(value, in_axes=(_axes(members), None))(members, layout)


def _padded(params: HmmParams, num_states: int) -> HmmParams:
    """The model with dead states up to K: copies of its last one, to which nothing leads."""
    more = num_states - params.num_states

    def pad(path: Any, leaf: Array) -> Array:
        axes = _STATE_AXES.get(_name(path), ())
        if not axes or not more:
            return leaf
        table = np.asarray(leaf)
        ways = _name(path) in ("start", "transition")
        for axis in axes:
            width = [(0, more if other == axis else 0) for other in range(table.ndim)]
            last = ways and axis == table.ndim - 1  # the axis that says which state is entered
            table = np.pad(table, width, mode="constant" if last else "edge")
        return table

    return jax.tree.map_with_path(pad, params)


def _axes(members: HmmParams) -> HmmParams:
    """Axes for vmap: 0 for tables of the members, None for what they share."""
    return jax.tree.map_with_path(lambda path, _: 0 if _is_own(path) else None, members)


def _is_own(path: Any) -> bool:
    return _name(path) in _OF_MEMBERS


def _name(path: Any) -> str:
    return ".".join(key.name for key in path)
