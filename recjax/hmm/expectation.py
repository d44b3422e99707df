"""The E-step: expected counts of a batch of users, summed while the recursions run backwards.

Only the forward probabilities and one weight [T, B, K] for the item tables are held for all events;
everything else is added up event by event. The M-step is in `counts`.

Reference:
    Baum et al. (1970), "A maximization technique occurring in the statistical analysis of
    probabilistic functions of Markov chains".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.counts import Counts
from recjax.hmm.emissions import Observation, observe
from recjax.hmm.events import Layout, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import Moment, event_log_likelihood, fold_backward, forward
from recjax.hmm.state_chain import Chain, matmul, start_rows

_BLOCK_CELLS = {"cpu": 16_384}  # whose arrays fit the cache; accelerators take all rows at once


class _Facts(NamedTuple):
    """What the sums read of an event, [T, B, ...]; kernel parts None without kernel."""

    layout: Layout
    has_kernel: jax.Array | None
    kernel_share: jax.Array | None


class _Sums(NamedTuple):
    """Sums over events, one [...] for each of P parts of the rows."""

    moves: jax.Array  # [P, K, K], still without the probability of the move
    kinds: jax.Array  # [P, K, n], posteriors by kind of event
    by_kernel: jax.Array  # [P, K], events whose item the kernel chose; 0 without kernel
    stays: jax.Array | None  # [P, K, D], still without the probability of the duration


class RowPlan(NamedTuple):
    """How the rows of a batch are worked through; static.

    Attributes:
        parts: parts of the rows that are summed apart until the end: as many as devices share them,
            or these would talk at every step.
        blocks: blocks of rows (of every part) that are worked through one after another.
    """

    parts: int = 1
    blocks: int = 1


WHOLE = RowPlan()


def plan_rows(layout: Layout) -> RowPlan:
    """Returns the plan for a layout [B, T], placed on devices or not yet."""
    num_rows, row_len = layout.items.shape
    parts, platform = 1, jax.default_backend()
    if isinstance(layout.items, jax.Array):
        parts = num_rows // layout.items.sharding.shard_shape(layout.items.shape)[0]
        platform = next(iter(layout.items.devices())).platform
    wanted = num_rows // parts * row_len / _BLOCK_CELLS.get(platform, np.inf)
    blocks = [n for n in range(1, num_rows // parts + 1) if num_rows // parts % n == 0]
    return RowPlan(parts, next((n for n in blocks if n >= wanted), 1))


@functools.partial(jax.jit, donate_argnums=0, static_argnames="plan")
def add_counts(
    counts: Counts, params: HmmParams, layout: Layout, *, plan: RowPlan = WHOLE
) -> tuple[Counts, jax.Array]:
    """Adds the expected counts of a batch (the E-step).

    Args:
        counts: sums so far; given away, so that large tables are not copied.
        params: the model.
        layout: [B, T]; where states are given they count as observed.
        plan: static, of `plan_rows`; its parts x blocks divide B.

    Returns:
        The new sums, and the log-likelihood of the batch, float32 [].
    """
    layout = jax.tree.map(jnp.asarray, layout)
    if plan.blocks == 1:
        return _add_block(counts, params, layout, plan.parts)

    def by_block(cells: jax.Array) -> jax.Array:
        apart = cells.reshape(plan.parts, plan.blocks, -1, cells.shape[-1])
        return jnp.swapaxes(apart, 0, 1).reshape(plan.blocks, -1, cells.shape[-1])

    def add(counts: Counts, block: Layout) -> tuple[Counts, jax.Array]:
        return _add_block(counts, params, block, plan.parts)

    counts, values = jax.lax.scan(add, counts, jax.tree.map(by_block, layout))
    return counts, values.sum()


def _add_block(
    counts: Counts, params: HmmParams, layout: Layout, num_parts: int
) -> tuple[Counts, jax.Array]:
    layout = time_major(layout)
    observation = observe(params, layout, leave_out=True)
    alphas, norms = forward(params, layout, observation.likelihood)
    kernel = observation.kernel
    facts = _Facts(layout, None if kernel is None else kernel.available, observation.kernel_share)
    visit = functools.partial(_add_moment, params, num_parts)
    sums, (own, via_kernel), ends = fold_backward(
        params, layout, observation.likelihood, alphas, norms, visit, _no_sums(params, num_parts),
        facts,
    )  # fmt: skip
    new = Counts(
        items=params.items.count(counts.items, layout.items, own),
        **_by_kind(params, sums),
        **_by_lag(observation, via_kernel),
    )
    small = dataclasses.replace(counts, items={})
    summed = jax.tree.map(jnp.add, small, dataclasses.replace(new, items={}))
    value = event_log_likelihood(layout, observation, norms, ends).sum()
    return dataclasses.replace(summed, items=new.items), value


def _no_sums(params: HmmParams, num_parts: int) -> _Sums:
    num_states = params.num_states
    num_kinds = sum(_kind_sizes(params))
    stays = None
    if params.duration is not None:
        stays = jnp.zeros((num_parts, *params.duration.shape))
    return _Sums(
        jnp.zeros((num_parts, num_states, num_states)),
        jnp.zeros((num_parts, num_states, num_kinds)),
        jnp.zeros((num_parts, num_states)),
        stays,
    )


def _add_moment(
    params: HmmParams, num_parts: int, sums: _Sums, moment: Moment, facts: _Facts
) -> tuple[_Sums, tuple[jax.Array, jax.Array | None]]:
    """Adds one event of each row; gives what the own tables [B, K] and the kernel [B] explain."""
    chain = Chain.of(params)
    leaving = chain.leaving(moment.alpha)
    moves = sums.moves + _products(leaving, chain.entered(moment.onward), num_parts)
    kinds = sums.kinds + _products(moment.posterior, _kinds(params, facts), num_parts)
    stays = sums.stays
    if stays is not None:
        start = chain.spread(start_rows(params, facts.layout.segments))
        begun = jnp.where((facts.layout.positions == 0)[:, None, None], start, 0.0) * moment.arrival
        begun += chain.spread(matmul(leaving, chain.go_on)) * moment.onward
        stays += _by_part(begun, num_parts).sum(1)
    if facts.kernel_share is None:
        return _Sums(moves, kinds, sums.by_kernel, stays), (moment.posterior, None)
    own = moment.posterior * (1.0 - facts.kernel_share)
    rest = moment.posterior - own
    by_kernel = sums.by_kernel + _by_part(rest, num_parts).sum(1)
    return _Sums(moves, kinds, by_kernel, stays), (own, rest.sum(-1))


def _products(left: jax.Array, right: jax.Array, num_parts: int) -> jax.Array:
    """Sums over the rows of each part of left [B, M] x right [B, N], float32 [P, M, N]."""
    left, right = _by_part(left, num_parts), _by_part(right, num_parts)
    if num_parts == 1:
        return matmul(left[0].T, right[0])[None]
    return matmul(jnp.swapaxes(left, 1, 2), right)


def _by_part(values: jax.Array, num_parts: int) -> jax.Array:
    return values.reshape(num_parts, -1, *values.shape[1:])


def _kind_sizes(params: HmmParams) -> tuple[int, int, int, int]:
    """Columns of `_kinds`: last, other and kernel; segments of starts; actions; gaps."""
    return 3, params.start.shape[0], params.action.shape[1], params.gap.shape[1]


def _kinds(params: HmmParams, facts: _Facts) -> jax.Array:
    """What kinds each event is of, float32 [B, n] of zeros and ones."""
    layout, (_, num_segments, num_actions, num_gaps) = facts.layout, _kind_sizes(params)
    first, last = layout.positions == 0, layout.lasts
    has_kernel = jnp.zeros_like(last) if facts.has_kernel is None else facts.has_kernel
    masks = jnp.stack([last, (layout.positions >= 0) & ~last, has_kernel], axis=-1)
    segments = jnp.zeros_like(layout.items) if layout.segments is None else layout.segments
    starts = jax.nn.one_hot(jnp.where(first, segments, -1), num_segments)
    actions = jax.nn.one_hot(layout.actions, num_actions)
    gaps = jax.nn.one_hot(jnp.where(layout.positions > 0, layout.gaps, -1), num_gaps)
    return jnp.concatenate([masks.astype(jnp.float32), starts, actions, gaps], axis=-1)


def _by_kind(params: HmmParams, sums: _Sums) -> dict[str, jax.Array]:
    """The counts that the sums over events hold."""
    chain = Chain.of(params)
    moves, kinds = sums.moves.sum(0) * chain.go_on, sums.kinds.sum(0)
    _, num_segments, num_actions, _ = _kind_sizes(params)
    action = 3 + num_segments
    gap = action + num_actions
    durations = jnp.zeros((params.num_states, 0))
    if sums.stays is not None and chain.duration is not None:
        durations = sums.stays.sum(0) * chain.duration
    return {
        "transition": moves,
        "duration": durations,
        "stop": kinds[:, 0],
        "go_on": kinds[:, 1] if sums.stays is None else moves.sum(-1),
        "kernel": sums.by_kernel.sum(0),
        "kernel_chance": kinds[:, 2],
        "start": kinds[:, 3:action].T,
        "action": kinds[:, action:gap],
        "gap": kinds[:, gap:],
    }


def _by_lag(observation: Observation, via_kernel: jax.Array | None) -> dict[str, jax.Array]:
    """Counts of the lags [W] followed by events that the kernel explains [T, B]."""
    if observation.kernel is None or via_kernel is None:
        return {"lags": jnp.zeros(0), "lag_chance": jnp.zeros(0)}
    return {
        "lags": (via_kernel[None] * observation.kernel.chosen).sum((1, 2)),
        "lag_chance": (via_kernel[None] * observation.kernel.chance).sum((1, 2)),
    }
