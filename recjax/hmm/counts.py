"""Expected counts (the E-step) and the parameters that they call for (the M-step), both jitted.

Counts of a batch are summed inside one jitted function, so that rows sharded over devices are added
up by the sharding, not by hand. Who calls with which batches is in `learning`.

Reference:
    Baum et al. (1970), "A maximization technique occurring in the statistical analysis of
    probabilistic functions of Markov chains"; Dempster, Laird, Rubin (1977), "Maximum likelihood
    from incomplete data via the EM algorithm", for the mixture and the pseudo-counts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.content import ContentItems
from recjax.hmm.emissions import Observation, PlainItems, normalise, observe, weighted_log
from recjax.hmm.events import Array, Layout, or_one, time_major
from recjax.hmm.parameters import HmmParams, host_rng, tilted_rows, without_stays
from recjax.hmm.recursions import backward, event_log_likelihood, forward
from recjax.hmm.state_chain import Chain, matmul, start_rows

_EMPTY_SHARE = 1e-3  # a state with less than this share of an even part is empty


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """Expected counts over events; what the E-step adds up and the M-step reads.

    Attributes:
        start: [S, K] users that begin in the state, by segment.
        transition: [K, K] moves.
        stop: [K] users that end in the state.
        go_on: [K] events that another one follows; with durations stays that another one follows.
        duration: [K, D] stays by their number of events; [K, 0] without durations.
        action: [K, A].
        gap: [K, G], first events left out.
        kernel: [K] items chosen by the kernel.
        kernel_chance: [K] items that the kernel could have chosen.
        lags: [W] items that followed the row of each lag; [0] without kernel.
        lag_chance: [W] what `Kernel.estimate` sets against them; [0] without kernel.
        items: of the states' own distributions, in the form of their class.
    """

    start: jax.Array
    transition: jax.Array
    stop: jax.Array
    go_on: jax.Array
    duration: jax.Array
    action: jax.Array
    gap: jax.Array
    kernel: jax.Array
    kernel_chance: jax.Array
    lags: jax.Array
    lag_chance: jax.Array
    items: dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prior:
    """Pseudo-counts: `smoothing` per cell of the small tables, `items` as their class says.

    Attributes:
        smoothing: float32 [].
        items: in the form of the class of the item distributions.
        alive: float32 [K], 1 for a state in use, 0 for a dead one: padding that lets models of
            several K share one shape. No pseudo-count leads into a dead state, so that a start
            without a way into it keeps it dead, and it adds nothing to the density.
    """

    smoothing: Array
    items: dict[str, Array]
    alive: Array


def zero_counts(params: HmmParams) -> Counts:
    """Returns counts of nothing, in the shapes of `params`; item tables lie where its own do."""
    # Made outside jit, which would not know where to put zeros that depend on nothing.
    return dataclasses.replace(_small_zeros(params), items=params.items.zero_counts())


@jax.jit
def _small_zeros(params: HmmParams) -> Counts:
    lags = jnp.zeros(0 if params.kernel is None else params.kernel.window)
    by_state, durations = jnp.zeros_like(params.stop), _no_durations(params)
    if params.duration is not None:
        durations = jnp.zeros_like(params.duration)
    return Counts(
        start=jnp.zeros_like(params.start),
        transition=jnp.zeros_like(params.transition),
        stop=by_state,
        go_on=by_state,
        duration=durations,
        action=jnp.zeros_like(params.action),
        gap=jnp.zeros_like(params.gap),
        kernel=by_state,
        kernel_chance=by_state,
        lags=lags,
        lag_chance=lags,
        items={},
    )


@functools.partial(jax.jit, donate_argnums=0)
def add_counts(counts: Counts, params: HmmParams, layout: Layout) -> tuple[Counts, jax.Array]:
    """Adds the expected counts of a batch (the E-step).

    Args:
        counts: sums so far; given away, so that large tables are not copied.
        params: the model.
        layout: [B, T]; where states are given they count as observed.

    Returns:
        The new sums, and the log-likelihood of the batch, float32 [].
    """
    layout = time_major(jax.tree.map(jnp.asarray, layout))
    observation = observe(params, layout, leave_out=True)
    alphas, norms = forward(params, layout, observation.likelihood)
    posteriors, arrivals = backward(params, layout, observation.likelihood, alphas, norms)
    value = event_log_likelihood(params, layout, observation, alphas, norms).sum()
    own, by_kernel = _split_by_kernel(observation, posteriors)
    seen = _sums_by_class(params, layout, observation, posteriors)
    moves, durations = _moves(params, layout, alphas, arrivals)
    if params.duration is not None:
        seen["go_on"] = moves.sum(-1)
    new = Counts(
        transition=moves,
        duration=durations,
        **by_kernel,
        items=params.items.count(counts.items, layout.items, own),
        **seen,
    )
    small = dataclasses.replace(counts, items={})
    summed = jax.tree.map(jnp.add, small, dataclasses.replace(new, items={}))
    return dataclasses.replace(summed, items=new.items), value


def _split_by_kernel(
    observation: Observation, posteriors: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The part [T, B, K] of events that the own distributions explain, and counts of the rest."""
    if observation.kernel_share is None or observation.kernel is None:
        nothing = jnp.zeros(0)
        none = jnp.zeros(posteriors.shape[-1])
        return posteriors, {"kernel": none, "lags": nothing, "lag_chance": nothing}
    own = posteriors * (1.0 - observation.kernel_share)
    rest = posteriors - own
    event = rest.sum(-1)[None]
    return own, {
        "kernel": rest.sum((0, 1)),
        "lags": (event * observation.kernel.chosen).sum((1, 2)),
        "lag_chance": (event * observation.kernel.chance).sum((1, 2)),
    }


def _sums_by_class(
    params: HmmParams, layout: Layout, observation: Observation, posteriors: jax.Array
) -> dict[str, jax.Array]:
    """Posteriors summed over the events of every kind; one matrix product for all of them."""
    num_segments, num_actions = params.start.shape[0], params.action.shape[1]
    later, last = layout.positions > 0, layout.lasts
    has_kernel = last if observation.kernel is None else observation.kernel.available
    others = (layout.positions >= 0) & ~last
    masks = jnp.stack([last, others, has_kernel], axis=-1).astype(jnp.float32)
    segments = jnp.zeros_like(layout.items) if layout.segments is None else layout.segments
    starts = jax.nn.one_hot(jnp.where(layout.positions == 0, segments, -1), num_segments)
    actions = jax.nn.one_hot(layout.actions, num_actions)
    gaps = jax.nn.one_hot(jnp.where(later, layout.gaps, -1), params.gap.shape[1])
    kinds = jnp.concatenate([masks, starts, actions, gaps], axis=-1)
    sums = _over_events(posteriors, kinds)
    none = jnp.zeros_like(params.mix)
    start, action = 3 + num_segments, 3 + num_segments + num_actions
    return {
        "stop": sums[:, 0],
        "go_on": sums[:, 1],
        "kernel_chance": none if observation.kernel is None else sums[:, 2],
        "start": sums[:, 3:start].T,
        "action": sums[:, start:action],
        "gap": sums[:, action:],
    }


def _moves(
    params: HmmParams, layout: Layout, alphas: jax.Array, arrivals: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Expected moves [K, K], one matrix product over all pairs of neighbours, and durations."""
    chain = Chain.of(params)
    later = (layout.positions > 0)[1:, :, None]
    entered = jnp.where(later, chain.entered(arrivals[1:]), 0.0)
    leaving = chain.leaving(alphas)[:-1]
    moves = _over_events(leaving, entered)
    moves = moves * (1.0 - params.stop)[:, None] * params.transition
    if chain.duration is None:
        return moves, _no_durations(params)
    start = start_rows(params, layout.segments)
    start = start[None] if start.ndim == 2 else start
    moved = matmul(leaving, chain.go_on)
    moved = jnp.concatenate([jnp.zeros_like(moved[:1]), moved])
    begun = jnp.where((layout.positions == 0)[..., None], start, moved)
    stays = jnp.einsum("tbk,tbkd->kd", begun, arrivals, precision=jax.lax.Precision.HIGHEST)
    return moves, stays * chain.duration


def _no_durations(params: HmmParams) -> jax.Array:
    return jnp.zeros((params.num_states, 0))


def _over_events(left: jax.Array, right: jax.Array) -> jax.Array:
    """Products [M, N] of [T, B, M] and [T, B, N], summed over all events.

    Not by way of [T x B, ...]: where rows are sharded, that gathers all events on every device.
    """
    return jnp.einsum("tbm,tbn->mn", left, right, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def estimate(params: HmmParams, counts: Counts, prior: Prior) -> HmmParams:
    """Returns the parameters that the counts call for (the M-step); rows never seen stay."""
    smoothing, ways = prior.smoothing, prior.smoothing * prior.alive
    total = counts.stop + counts.go_on + 2 * smoothing
    mix, kernel = params.mix, params.kernel
    if kernel is not None:
        kernel = kernel.estimate(counts.lags, counts.lag_chance, smoothing)
        mix = _ratio(counts.kernel + smoothing, counts.kernel_chance + 2 * smoothing, mix)
    return HmmParams(
        start=normalise(counts.start + ways[None, :], params.start),
        transition=normalise(counts.transition + _move_prior(params, prior), params.transition),
        stop=_ratio(counts.stop + smoothing, total, params.stop),
        action=normalise(counts.action + smoothing, params.action),
        gap=normalise(counts.gap + smoothing, params.gap),
        mix=mix,
        items=params.items.estimate(counts.items, prior.items),
        kernel=kernel,
        duration=None
        if params.duration is None
        else normalise(counts.duration + smoothing, params.duration),
    )


def _move_prior(params: HmmParams, prior: Prior) -> jax.Array:
    """Pseudo-counts [K, K] of moves: none into a dead state, nor with durations into the same."""
    ways = jnp.broadcast_to(prior.smoothing * prior.alive, params.transition.shape)
    if params.duration is None:
        return ways
    return ways * (1.0 - jnp.eye(params.num_states))


def _ratio(part: jax.Array, total: jax.Array, fallback: jax.Array) -> jax.Array:
    ratio = part / or_one(total)
    return jnp.where(total > 0, jnp.minimum(ratio, 1.0), fallback)


@jax.jit
def log_prior(params: HmmParams, prior: Prior) -> jax.Array:
    """Returns the log density [] of the prior up to a constant, the penalty EM climbs with."""
    value = params.items.log_prior(prior.items, prior.alive)
    by_state = prior.smoothing * prior.alive
    value += weighted_log(_move_prior(params, prior) * prior.alive[:, None], params.transition)
    tables = [params.action, params.gap]
    if params.duration is not None:
        tables.append(params.duration)
    for table in tables:
        value += weighted_log(by_state[:, None], table)
    value += weighted_log(by_state[None, :], params.start)
    vectors = [params.stop, 1.0 - params.stop]
    if params.kernel is not None:
        vectors += [params.mix, 1.0 - params.mix]
        value += weighted_log(prior.smoothing, jnp.asarray(params.kernel.lags))
    return value + sum(weighted_log(by_state, vector) for vector in vectors)


def make_prior(
    params: HmmParams,
    smoothing: float,
    popularity: np.ndarray,
    num_alive: int | None = None,
) -> Prior:
    """Returns the pseudo-counts of `smoothing` for a model of this shape.

    Args:
        params: the model.
        smoothing: see `HmmSettings`.
        popularity: events per item [V].
        num_alive: states from this one on are dead; None: all are in use.
    """
    alive = np.ones(params.num_states, np.float32)
    alive[params.num_states if num_alive is None else num_alive :] = 0.0
    items = params.items.prior(smoothing, popularity)
    return Prior(np.asarray(smoothing, np.float32), items, alive)


def reseed(key: jax.Array, params: HmmParams, counts: Counts, prior: Prior) -> HmmParams:
    """Returns params whose empty states are tilted copies of the fullest one.

    Empty is a state in use that hardly any event reaches; dead ones stay dead. On the host; counts
    and prior are those that the params were estimated from.
    """
    visits, alive = np.asarray(counts.action).sum(1), np.asarray(prior.alive) > 0
    empty = np.flatnonzero(alive & (visits < _EMPTY_SHARE * visits[alive].mean()))
    if not empty.size:
        return params
    fullest, items, rng = int(visits.argmax()), params.items, host_rng(key)
    if isinstance(items, ContentItems):
        items = items.reseeded(rng, empty, fullest)
    elif isinstance(items, PlainItems):
        items = PlainItems(_tilted(rng, items.table.T, empty, fullest).T)
    else:
        items = dataclasses.replace(items, category=_tilted(rng, items.category, empty, fullest))
    names = ["start", "transition", "stop", "action", "gap", "mix"]
    names += [] if params.duration is None else ["duration"]
    tables: dict[str, Any] = {name: np.array(getattr(params, name)) for name in names}
    for name in names[1:]:
        tables[name][empty] = tables[name][fullest]
    for ways in (tables["start"], tables["transition"]):
        ways[:, fullest] /= 2  # the other half of what led to the fullest leads to the new ones
        ways[:, empty] += ways[:, fullest, None] / empty.size
        ways /= ways.sum(-1, keepdims=True)
    if params.duration is not None:
        tables["transition"] = without_stays(tables["transition"])
    return jax.tree.map(jnp.asarray, dataclasses.replace(params, items=items, **tables))


def _tilted(rng: np.random.Generator, table: Array, empty: np.ndarray, fullest: int) -> np.ndarray:
    """Rows `empty` of a table [K, n] become random tilts of row `fullest`."""
    table = np.array(table)
    odds = np.broadcast_to(table[fullest], (empty.size, table.shape[1]))
    table[empty] = tilted_rows(rng, odds, 0.2)
    return table
