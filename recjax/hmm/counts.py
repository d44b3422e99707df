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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.content import ContentItems
from recjax.hmm.emissions import PlainItems, normalise, weighted_log
from recjax.hmm.events import Array, or_one
from recjax.hmm.parameters import HmmParams, host_rng, tilted_rows, without_stays

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


def _no_durations(params: HmmParams) -> jax.Array:
    return jnp.zeros((params.num_states, 0))


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
