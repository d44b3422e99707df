"""What the model says about given users: likelihoods, state posteriors, paths, the next item.

The recursions are scaled in float32 and run over time-major layouts; `forward` and `backward` are
shared with learning and sampling. Public functions take `Events`, check them on the host and are
jitted inside; called under another jit they trace through.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from recjax.hmm.emissions import Observation, observe
from recjax.hmm.events import Events, Layout, lay_out, take_rows, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.validation import validate_events, validate_params
from recjax.hmm.words import RowWords


def matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """Matrix product in full float32; accelerators would round the factors to fewer bits."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def forward(
    params: HmmParams, layout: Layout, likelihood: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs the scaled forward recursion.

    Args:
        params: the model.
        layout: time-major [T, B].
        likelihood: float32 [T, B, K] of `observe`.

    Returns:
        alphas float32 [T, B, K], p(state | events so far), and norms float32 [T, B], the
        probability of each event given those before it, over the scale of `observe`; both are
        meaningless on padding. An impossible event has norm 0 and alphas 0.

    Reference:
        Rabiner (1989), "A Tutorial on Hidden Markov Models", Sec. V.A; the stop is one more exit.
    """
    go_on = _go_on(params)

    def step(
        alpha: jax.Array, event: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        first, here = event
        moved = matmul(alpha, go_on)
        joint = jnp.where(first[:, None], params.start[None, :], moved) * here
        norm = joint.sum(-1)
        alpha = joint / jnp.where(norm > 0, norm, 1.0)[:, None]
        return alpha, (alpha, norm)

    _, (alphas, norms) = jax.lax.scan(
        step, jnp.zeros_like(likelihood[0]), (layout.positions == 0, likelihood)
    )
    return alphas, norms


def backward(
    params: HmmParams,
    layout: Layout,
    likelihood: jax.Array,
    alphas: jax.Array,
    norms: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs the scaled backward recursion.

    Returns:
        posteriors float32 [T, B, K], p(state | all events of the user), and arrivals float32
        [T, B, K], such that p(state i at t - 1, state j at t | all) is
        alphas[t - 1, i] (1 - stop[i]) transition[i, j] arrivals[t, j]; both are 0 on padding.
    """
    go_back = _go_on(params).T
    ends = (alphas * params.stop[None, None, :]).sum(-1)
    real = layout.positions >= 0

    def step(
        arrival: jax.Array, event: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        last, keep, here, alpha, norm, end = event
        stopped = params.stop[None, :] * _inverse(end)[:, None]
        beta = jnp.where(last[:, None], stopped, matmul(arrival, go_back))
        beta = jnp.where(keep[:, None], beta, 0.0)
        arrival = beta * here * _inverse(norm)[:, None]
        return arrival, (alpha * beta, arrival)

    _, outputs = jax.lax.scan(
        step,
        jnp.zeros_like(alphas[0]),
        (layout.lasts, real, likelihood, alphas, norms, ends),
        reverse=True,
    )
    return outputs


def event_log_likelihood(
    params: HmmParams,
    layout: Layout,
    observation: Observation,
    alphas: jax.Array,
    norms: jax.Array,
) -> jax.Array:
    """Returns log p(event | events before) float32 [T, B], with the stop at the last event."""
    real = layout.positions >= 0
    value = jnp.log(norms) + observation.log_scale
    end = (alphas * params.stop[None, None, :]).sum(-1)
    value += jnp.where(layout.lasts, jnp.log(jnp.where(layout.lasts, end, 1.0)), 0.0)
    return jnp.where(real, value, 0.0)


def log_likelihood(params: HmmParams, events: Events, *, leave_out: bool = False) -> jax.Array:
    """Returns log p(all events and the end of each user), float32 [B].

    Args:
        params: the model.
        events: users; padding rows get 0.
        leave_out: static; True for users that the kernel was counted from: each event's own counts
            are then taken out of the kernel.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _log_likelihood(params, events, leave_out=leave_out)


@functools.partial(jax.jit, static_argnames="leave_out")
def _log_likelihood(params: HmmParams, events: Events, *, leave_out: bool) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, norms = forward(params, layout, observation.likelihood)
    return event_log_likelihood(params, layout, observation, alphas, norms).sum(0)


def item_log_likelihood(params: HmmParams, events: Events, *, leave_out: bool = False) -> jax.Array:
    """Returns the sum over events of log p(item | all earlier events), float32 [B].

    Action and gap of the event itself are not known yet, and that it happens is; so the quantity is
    the same for every family: exp(-sum / number of events) is the item perplexity.

    Args:
        params: the model.
        events: users; padding rows get 0.
        leave_out: as in `log_likelihood`.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _item_log_likelihood(params, events, leave_out=leave_out)


@functools.partial(jax.jit, static_argnames="leave_out")
def _item_log_likelihood(params: HmmParams, events: Events, *, leave_out: bool) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, _ = forward(params, layout, observation.likelihood)
    moved = matmul(alphas[:-1], _go_on(params))
    moved /= _or_one(moved.sum(-1, keepdims=True))
    start = jnp.broadcast_to(params.start[None, None, :], alphas[:1].shape)
    expected = jnp.concatenate([start, moved])
    item = (expected * observation.item).sum(-1)
    return jnp.where(layout.positions >= 0, jnp.log(item), 0.0).sum(0)


def filter(params: HmmParams, events: Events) -> jax.Array:  # noqa: A001 (its name everywhere)
    """Returns p(state at t | events up to t), float32 [B, T, K]; 0 on padding.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _filter(params, events)


@jax.jit
def _filter(params: HmmParams, events: Events) -> jax.Array:
    layout, _, alphas, _ = _forward_of(params, events)
    return _rows_first(jnp.where(layout.positions[..., None] >= 0, alphas, 0.0))


def smoother(params: HmmParams, events: Events) -> jax.Array:
    """Returns p(state at t | all events and the end), float32 [B, T, K]; 0 on padding.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _smoother(params, events)


@jax.jit
def _smoother(params: HmmParams, events: Events) -> jax.Array:
    layout, observation, alphas, norms = _forward_of(params, events)
    posteriors, _ = backward(params, layout, observation.likelihood, alphas, norms)
    return _rows_first(posteriors)


def viterbi(params: HmmParams, events: Events) -> tuple[jax.Array, jax.Array]:
    """Returns the most likely states of every user.

    Returns:
        states int32 [B, T], -1 on padding, and log p(states, events, end) float32 [B].

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _viterbi(params, events)


@jax.jit
def _viterbi(params: HmmParams, events: Events) -> tuple[jax.Array, jax.Array]:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=False)
    here = jnp.log(observation.likelihood) + observation.log_scale[..., None]
    go_on = jnp.log(_go_on(params))[None]
    here += jnp.where(layout.lasts[..., None], jnp.log(params.stop)[None, None, :], 0.0)
    real = layout.positions >= 0

    def step(best: jax.Array, event: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, value = event
        routes = best[:, :, None] + go_on
        arrived = jnp.where(keep[:, None], routes.max(1) + value, best)
        return arrived, routes.argmax(1).astype(jnp.int32)

    first = jnp.log(params.start)[None, :] + here[0]
    best, origins = jax.lax.scan(step, first, (real[1:], here[1:]))

    def trace(state: jax.Array, event: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, origin = event
        came_from = jnp.take_along_axis(origin, state[:, None], axis=1)[:, 0]
        return jnp.where(keep, came_from, state), state

    head, tail = jax.lax.scan(
        trace, best.argmax(-1).astype(jnp.int32), (real[1:], origins), reverse=True
    )
    states = jnp.where(real, jnp.concatenate([head[None], tail]), -1)
    return states.T, jnp.where(real[0], best.max(-1), 0.0)


def sample_states(
    key: jax.Array, params: HmmParams, events: Events, *, first_row: int = 0
) -> jax.Array:
    """Draws states from their joint posterior (forward filter, backward sample).

    Args:
        key: PRNG key; row b depends on (key, first_row + b) only.
        params: the model.
        events: users.
        first_row: number of the first row, for draws in several batches.

    Returns:
        int32 [B, T], -1 on padding.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    _validate(params, events)
    return _sample_states(key, params, events, jnp.asarray(first_row, jnp.int32))


@jax.jit
def _sample_states(
    key: jax.Array, params: HmmParams, events: Events, first_row: jax.Array
) -> jax.Array:
    layout, _, alphas, _ = _forward_of(params, events)
    num_rows, num_steps = events.items.shape
    rows = first_row + jnp.arange(num_rows, dtype=jnp.int32)
    steps = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    words = RowWords.of(key, rows).uniform("move", steps)
    towards = _go_on(params).T

    def step(
        later: jax.Array, event: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        last, alpha, uniform = event
        factor = jnp.where(last[:, None], params.stop[None, :], take_rows(towards, later))
        state = draw_index(alpha * factor, uniform)
        return state, state

    _, states = jax.lax.scan(
        step,
        jnp.zeros(num_rows, jnp.int32),
        (layout.lasts, alphas, words),
        reverse=True,
    )
    return jnp.where(layout.positions >= 0, states, -1).T


def draw_index(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draws int32 [B] with odds weights [B, K], one uniform [B] each; for few outcomes only."""
    sums = jnp.cumsum(weights, axis=-1)
    index = (sums <= uniform[:, None] * sums[:, -1:]).sum(-1)
    return jnp.minimum(index, weights.shape[-1] - 1).astype(jnp.int32)


def next_state_distribution(params: HmmParams, events: Events) -> jax.Array:
    """Returns p(state of the next event | events, and that one follows), float32 [B, K].

    Of a padding row it is the start distribution. Traceable; checks nothing.
    """
    layout, _, alphas, _ = _forward_of(params, events)
    final = (alphas * layout.lasts[..., None]).sum(0)
    moved = matmul(final, _go_on(params))
    total = moved.sum(-1, keepdims=True)
    return jnp.where(total > 0, moved / _or_one(total), params.start[None, :])


def next_item_distribution(
    params: HmmParams, events: Events, *, first_item: int = 0, num_items: int | None = None
) -> jax.Array:
    """Returns p(item of the next event | events, and that one follows), float32 [B, size].

    Args:
        params: the model.
        events: histories.
        first_item: static; first item of the slice of the catalogue that is wanted.
        num_items: static size of the slice; None: up to the end.

    Raises:
        ValueError: if a table is no distribution, an id or the slice is out of range.
    """
    _validate(params, events)
    size = params.items.num_items - first_item if num_items is None else num_items
    if not (0 <= first_item and size >= 1 and first_item + size <= params.items.num_items):
        raise ValueError(
            f"items {first_item}..{first_item + size - 1}: expected within the "
            f"{params.items.num_items} items"
        )
    return _next_item_distribution(params, events, first_item=first_item, size=size)


def next_item_scores(
    params: HmmParams, events: Events, *, first_item: int = 0, num_items: int | None = None
) -> jax.Array:
    """Returns the log of `next_item_distribution`; the model as a recommender."""
    return jnp.log(
        next_item_distribution(params, events, first_item=first_item, num_items=num_items)
    )


@functools.partial(jax.jit, static_argnames=("first_item", "size"))
def _next_item_distribution(
    params: HmmParams, events: Events, *, first_item: int, size: int
) -> jax.Array:
    state = next_state_distribution(params, events)
    own = params.items.block(first_item, size).T
    if params.kernel is None:
        return matmul(state, own)
    rows, share = previous_items(params, events)
    usable = share.sum(-1) > 0
    mix = jnp.where(usable[:, None], params.mix[None, :], 0.0)
    result = matmul(state * (1.0 - mix), own)
    weight = (state * mix).sum(-1)
    neighbours = take_rows(params.kernel.neighbours, rows) - first_item
    values = weight[:, None, None] * share[..., None] * take_rows(params.kernel.weights, rows)
    neighbours = jnp.where((neighbours >= 0) & (neighbours < size), neighbours, size)
    batch = jnp.arange(rows.shape[0])[:, None, None]
    return result.at[batch, neighbours].add(values, mode="drop")


def previous_items(params: HmmParams, events: Events) -> tuple[jax.Array, jax.Array]:
    """Returns the last W items int32 [B, W], newest first, and their kernel rows' shares [B, W].

    Shares sum to 1, or to 0 where no item of the window has a kernel row. Needs a kernel.
    """
    kernel = params.kernel
    assert kernel is not None
    items = jnp.asarray(events.items)
    lags = jnp.arange(1, kernel.window + 1, dtype=jnp.int32)[None, :]
    places = jnp.asarray(events.lengths)[:, None] - lags
    rows = jnp.take_along_axis(items, jnp.clip(places, 0, items.shape[1] - 1), axis=1)
    usable = (places >= 0) & (take_rows(kernel.totals, rows) > 0)
    share = jnp.where(usable, jnp.asarray(kernel.lags)[None, :], 0.0)
    return jnp.where(places >= 0, rows, -1), share / _or_one(share.sum(-1, keepdims=True))


def _forward_of(
    params: HmmParams, events: Events
) -> tuple[Layout, Observation, jax.Array, jax.Array]:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=False)
    alphas, norms = forward(params, layout, observation.likelihood)
    return layout, observation, alphas, norms


def _go_on(params: HmmParams) -> jax.Array:
    """Probability [K, K] of going on from state i and then being in state j."""
    return (1.0 - params.stop)[:, None] * params.transition


def _inverse(value: jax.Array) -> jax.Array:
    return jnp.where(value > 0, 1.0 / _or_one(value), 0.0)


def _or_one(value: jax.Array) -> jax.Array:
    return jnp.where(value > 0, value, 1.0)


def _rows_first(values: jax.Array) -> jax.Array:
    return jnp.swapaxes(values, 0, 1)


def _validate(params: HmmParams, events: Events) -> None:
    validate_params(params)
    validate_events(events, params.sizes)
