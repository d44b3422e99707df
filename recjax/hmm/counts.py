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

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.emissions import PlainItems, normalise, observe, weighted_log
from recjax.hmm.events import Array, Layout, time_major
from recjax.hmm.inference import backward, event_log_likelihood, forward, matmul
from recjax.hmm.parameters import HmmParams

_EMPTY_SHARE = 1e-3  # a state with less than this share of an even part is empty


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """Expected counts over events; what the E-step adds up and the M-step reads.

    Attributes:
        start: [K] users that begin in the state.
        transition: [K, K] moves.
        stop: [K] users that end in the state.
        go_on: [K] events that another one follows.
        action: [K, A].
        gap: [K, G], first events left out.
        kernel: [K] items chosen by the kernel.
        kernel_chance: [K] items that the kernel could have chosen.
        items: of the states' own distributions, in the form of their class.
    """

    start: jax.Array
    transition: jax.Array
    stop: jax.Array
    go_on: jax.Array
    action: jax.Array
    gap: jax.Array
    kernel: jax.Array
    kernel_chance: jax.Array
    items: dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prior:
    """Pseudo-counts: `smoothing` per cell of the small tables, `items` as their class says."""

    smoothing: jax.Array
    items: dict[str, jax.Array]


def zero_counts(params: HmmParams) -> Counts:
    """Returns counts of nothing, in the shapes of `params`."""
    state = jnp.zeros_like(params.start)
    return Counts(
        start=state,
        transition=jnp.zeros_like(params.transition),
        stop=state,
        go_on=state,
        action=jnp.zeros_like(params.action),
        gap=jnp.zeros_like(params.gap),
        kernel=state,
        kernel_chance=state,
        items=params.items.zero_counts(),
    )


@jax.jit
def add_counts(counts: Counts, params: HmmParams, layout: Layout) -> tuple[Counts, jax.Array]:
    """Adds the expected counts of a batch (the E-step).

    Args:
        counts: sums so far.
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
    first, last = layout.positions == 0, layout.lasts
    later, others = layout.positions > 0, (layout.positions >= 0) & ~last
    own, kernel, chance = posteriors, counts.kernel, counts.kernel_chance
    if observation.kernel_share is not None and observation.has_kernel is not None:
        own = posteriors * (1.0 - observation.kernel_share)
        kernel += (posteriors - own).sum((0, 1))
        chance += _masked_sum(posteriors, observation.has_kernel)
    gaps = jnp.where(later, layout.gaps, -1)
    return Counts(
        start=counts.start + _masked_sum(posteriors, first),
        transition=counts.transition + _moves(params, alphas, arrivals, later),
        stop=counts.stop + _masked_sum(posteriors, last),
        go_on=counts.go_on + _masked_sum(posteriors, others),
        action=counts.action + _by_class(posteriors, layout.actions, counts.action.shape[1]),
        gap=counts.gap + _by_class(posteriors, gaps, counts.gap.shape[1]),
        kernel=kernel,
        kernel_chance=chance,
        items=params.items.count(
            counts.items, layout.items.reshape(-1), own.reshape(-1, own.shape[-1])
        ),
    ), value


def _masked_sum(values: jax.Array, mask: Array) -> jax.Array:
    return jnp.where(mask[..., None], values, 0.0).sum((0, 1))


def _moves(
    params: HmmParams, alphas: jax.Array, arrivals: jax.Array, later: jax.Array
) -> jax.Array:
    """Expected moves [K, K]: one matrix product over all pairs of neighbouring events."""
    num_states = params.num_states
    arrivals = jnp.where(later[1:, :, None], arrivals[1:], 0.0).reshape(-1, num_states)
    pairs = matmul(alphas[:-1].reshape(-1, num_states).T, arrivals)
    return pairs * (1.0 - params.stop)[:, None] * params.transition


def _by_class(values: jax.Array, classes: jax.Array, num_classes: int) -> jax.Array:
    """Sums [K, num_classes] of values [T, B, K] by class [T, B]; -1 counts nowhere."""
    if num_classes == 1:
        return _masked_sum(values, classes >= 0)[:, None]
    chosen = jax.nn.one_hot(classes.reshape(-1), num_classes)
    return matmul(values.reshape(-1, values.shape[-1]).T, chosen)


@jax.jit
def estimate(params: HmmParams, counts: Counts, prior: Prior) -> HmmParams:
    """Returns the parameters that the counts call for (the M-step); rows never seen stay."""
    smoothing = prior.smoothing
    total = counts.stop + counts.go_on + 2 * smoothing
    mix = params.mix
    if params.kernel is not None:
        mix = _ratio(counts.kernel + smoothing, counts.kernel_chance + 2 * smoothing, mix)
    return HmmParams(
        start=normalise(counts.start + smoothing, params.start),
        transition=normalise(counts.transition + smoothing, params.transition),
        stop=_ratio(counts.stop + smoothing, total, params.stop),
        action=normalise(counts.action + smoothing, params.action),
        gap=normalise(counts.gap + smoothing, params.gap),
        mix=mix,
        items=params.items.estimate(counts.items, prior.items),
        kernel=params.kernel,
    )


def _ratio(part: jax.Array, total: jax.Array, fallback: jax.Array) -> jax.Array:
    ratio = part / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, jnp.minimum(ratio, 1.0), fallback)


@jax.jit
def log_prior(params: HmmParams, prior: Prior) -> jax.Array:
    """Returns the log density of the prior up to a constant, the penalty that EM climbs with."""
    value = params.items.log_prior(prior.items)
    tables = [params.start, params.transition, params.action, params.gap]
    tables += [params.stop, 1.0 - params.stop]
    if params.kernel is not None:
        tables += [params.mix, 1.0 - params.mix]
    return value + sum(weighted_log(prior.smoothing, table) for table in tables)


def make_prior(params: HmmParams, smoothing: float, popularity: np.ndarray) -> Prior:
    """Returns the pseudo-counts of `smoothing` for a model of this shape."""
    return Prior(jnp.asarray(smoothing, jnp.float32), params.items.prior(smoothing, popularity))


def reseed(key: jax.Array, params: HmmParams, counts: Counts) -> HmmParams:
    """Returns params whose empty states are tilted copies of the fullest one.

    Empty is a state that hardly any event reaches. On the host; the counts are those that the
    params were estimated from.
    """
    visits = np.asarray(counts.stop + counts.go_on)
    empty = np.flatnonzero(visits < _EMPTY_SHARE * visits.mean())
    if not empty.size:
        return params
    fullest, items = int(visits.argmax()), params.items
    if isinstance(items, PlainItems):
        items = PlainItems(_tilted(key, items.table.T, empty, fullest).T)
    else:
        items = dataclasses.replace(items, category=_tilted(key, items.category, empty, fullest))
    copied = {
        name: getattr(params, name).at[empty].set(getattr(params, name)[fullest])
        for name in ("transition", "stop", "action", "gap", "mix")
    }
    # Half of what led to the fullest state leads to the new ones.
    ways = params.transition[:, fullest] / 2
    transition = copied["transition"].at[:, fullest].set(ways)
    transition = transition.at[:, empty].add((ways / empty.size)[:, None])
    transition = transition / transition.sum(-1, keepdims=True)
    start = params.start.at[empty].add(params.start[fullest] / empty.size)
    copied.update(transition=transition, start=start / start.sum())
    return dataclasses.replace(params, items=items, **copied)


def _tilted(key: jax.Array, table: jax.Array, empty: np.ndarray, fullest: int) -> jax.Array:
    """Rows `empty` of a table [K, n] become random tilts of row `fullest`."""
    noise = 0.2 + jax.random.exponential(key, (empty.size, table.shape[1]))
    rows = table[fullest][None, :] * noise
    return table.at[empty].set(rows / rows.sum(-1, keepdims=True))
