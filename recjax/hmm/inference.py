"""What the model says about given users: likelihoods, state posteriors and paths.

Public functions take `Events`, check them on the host and are jitted inside; called under another
jit they trace through. The recursions are in `recursions`, the next item in `prediction`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from recjax.hmm import associative, recursions
from recjax.hmm.emissions import observe
from recjax.hmm.events import Events, lay_out, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import (
    event_log_likelihood,
    forward_of,
    sample_path,
)
from recjax.hmm.state_chain import Chain, start_rows
from recjax.hmm.validation import validate_input
from recjax.hmm.words import RowWords


def log_likelihood(
    params: HmmParams, events: Events, *, leave_out: bool = False, parallel: bool | None = None
) -> jax.Array:
    """Returns log p(all events and the end of each user), float32 [B].

    Args:
        params: the model.
        events: users; padding rows get 0.
        leave_out: static; True for users that the kernel was counted from: each event's own counts
            are then taken out of the kernel.
        parallel: static; whether time is done in parallel (`associative`); None: where it is
            faster, as `use_associative` says; with explicit durations never.

    Raises:
        ValueError: if a table is no distribution, an id is out of range, or durations are explicit
            and `parallel` is True.
    """
    validate_input(params, events)
    parallel = _in_parallel(params, events, parallel)
    return _log_likelihood(params, events, leave_out=leave_out, parallel=parallel)


@functools.partial(jax.jit, static_argnames=("leave_out", "parallel"))
def _log_likelihood(
    params: HmmParams, events: Events, *, leave_out: bool, parallel: bool
) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=leave_out)
    way = associative if parallel else recursions
    alphas, norms = way.forward(params, layout, observation.likelihood)
    return event_log_likelihood(layout, observation, norms, Chain.of(params).end(alphas)).sum(0)


def filter(  # noqa: A001 (its name everywhere)
    params: HmmParams, events: Events, *, parallel: bool | None = None
) -> jax.Array:
    """Returns p(state at t | events up to t), float32 [B, T, K]; 0 on padding.

    Args:
        params: the model.
        events: users.
        parallel: as in `log_likelihood`.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    validate_input(params, events)
    return _filter(params, events, parallel=_in_parallel(params, events, parallel))


@functools.partial(jax.jit, static_argnames="parallel")
def _filter(params: HmmParams, events: Events, *, parallel: bool) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=False)
    way = associative if parallel else recursions
    alphas, _ = way.forward(params, layout, observation.likelihood)
    by_state = Chain.of(params).states(alphas)
    return _rows_first(jnp.where(layout.positions[..., None] >= 0, by_state, 0.0))


def smoother(params: HmmParams, events: Events, *, parallel: bool | None = None) -> jax.Array:
    """Returns p(state at t | all events and the end), float32 [B, T, K]; 0 on padding.

    Args:
        params: the model.
        events: users.
        parallel: as in `log_likelihood`.

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    validate_input(params, events)
    return _smoother(params, events, parallel=_in_parallel(params, events, parallel))


@functools.partial(jax.jit, static_argnames="parallel")
def _smoother(params: HmmParams, events: Events, *, parallel: bool) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=False)
    way = associative if parallel else recursions
    alphas, norms = way.forward(params, layout, observation.likelihood)
    posteriors, _ = way.backward(params, layout, observation.likelihood, alphas, norms)
    return _rows_first(posteriors)


def _in_parallel(params: HmmParams, events: Events, wanted: bool | None) -> bool:
    if params.duration is not None:  # a matrix over cells [K D, K D] would never be the faster way
        if wanted:
            raise ValueError("parallel = True: expected False or None with explicit durations")
        return False
    if wanted is not None:
        return wanted
    num_rows, num_steps = events.items.shape
    backend = jax.default_backend()
    return associative.use_associative(num_steps, num_rows, params.num_states, backend)


def viterbi(params: HmmParams, events: Events) -> tuple[jax.Array, jax.Array]:
    """Returns the most likely states of every user.

    Returns:
        states int32 [B, T], -1 on padding, and log p(states, events, end) float32 [B].

    Raises:
        ValueError: if a table is no distribution or an id is out of range.
    """
    validate_input(params, events)
    return _viterbi(params, events)


@jax.jit
def _viterbi(params: HmmParams, events: Events) -> tuple[jax.Array, jax.Array]:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=False)
    here = jnp.log(observation.likelihood) + observation.log_scale[..., None]
    chain, real = Chain.of(params), layout.positions >= 0
    num_rows, num_left = here.shape[1], 1 if chain.duration is None else chain.shape[1]
    # Logs over cells [K, D] throughout; without durations D is 1 and its only place weighs nothing.
    duration = jnp.zeros((1, 1, 1)) if chain.duration is None else jnp.log(chain.duration)[None]
    go_on, stop = jnp.log(chain.go_on)[None], jnp.log(params.stop)[None]
    no_end = jnp.where(jnp.arange(num_left) == 0, 0.0, -jnp.inf)[None, None, :]
    place = jnp.arange(params.num_states * num_left, dtype=jnp.int32).reshape(1, -1, num_left)

    def arrive(best: jax.Array, last: jax.Array, value: jax.Array) -> jax.Array:
        value += jnp.where(last[:, None], stop, 0.0)
        return best + value[..., None] + jnp.where(last[:, None, None], no_end, 0.0)

    def step(best: jax.Array, event: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        keep, last, value = event
        routes = best[:, :, None, 0] + go_on
        origin = routes.argmax(1).astype(jnp.int32)[..., None] * num_left
        moved = routes.max(1)[..., None] + duration
        stayed = jnp.pad(best, ((0, 0), (0, 0), (0, 1)), constant_values=-jnp.inf)[..., 1:]
        arrived = arrive(jnp.maximum(moved, stayed), last, value)
        origin = jnp.where(stayed > moved, place + 1, origin).reshape(num_rows, -1)
        return jnp.where(keep[:, None, None], arrived, best), origin

    start = jnp.log(start_rows(params, events.segments))[..., None] + duration
    first = arrive(start, layout.lasts[0], here[0])
    best, origins = jax.lax.scan(step, first, (real[1:], layout.lasts[1:], here[1:]))
    best = best.reshape(num_rows, -1)

    def trace(cell: jax.Array, event: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, origin = event
        came_from = jnp.take_along_axis(origin, cell[:, None], axis=1)[:, 0]
        return jnp.where(keep, came_from, cell), cell

    head, tail = jax.lax.scan(
        trace, best.argmax(-1).astype(jnp.int32), (real[1:], origins), reverse=True
    )
    states = jnp.where(real, jnp.concatenate([head[None], tail]) // num_left, -1)
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
    validate_input(params, events)
    return _sample_states(key, params, events, jnp.asarray(first_row, jnp.int32))


@jax.jit
def _sample_states(
    key: jax.Array, params: HmmParams, events: Events, first_row: jax.Array
) -> jax.Array:
    layout, _, alphas, _ = forward_of(params, events)
    num_rows, num_steps = events.items.shape
    rows = first_row + jnp.arange(num_rows, dtype=jnp.int32)
    steps = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    uniforms = RowWords.of(key, rows).uniform("move", steps)
    states = sample_path(params, layout, alphas, uniforms)
    return jnp.where(layout.positions >= 0, states, -1).T


def _rows_first(values: jax.Array) -> jax.Array:
    return jnp.swapaxes(values, 0, 1)
