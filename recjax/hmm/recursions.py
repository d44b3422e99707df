"""The scaled recursions over time that learning, inference and draws share.

Float32, over time-major layouts; traced, without checks. What users of the package call is in
`inference`, `prediction`, `learning` and `sampling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recjax.hmm.emissions import Observation, observe
from recjax.hmm.events import Events, Layout, lay_out, or_one, take_rows, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.state_chain import Chain

Tree = Any


def forward(
    params: HmmParams, layout: Layout, likelihood: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Runs the scaled forward recursion.

    Args:
        params: the model.
        layout: time-major [T, B].
        likelihood: float32 [T, B, K] of `observe`.

    Returns:
        alphas float32 [T, B, K], p(state | events so far), with durations [T, B, K, D] (cells of
        `Chain`), and norms float32 [T, B], the probability of each event given those before it,
        over the scale of `observe`; both are meaningless on padding. An impossible event has norm
        0 and alphas 0.

    Reference:
        Rabiner (1989), "A Tutorial on Hidden Markov Models", Sec. V.A; the stop is one more exit.
    """
    chain = Chain.of(params)

    def step(
        alpha: jax.Array, event: tuple[jax.Array, jax.Array | None, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        first, segments, here = event
        before = jnp.where(chain.each(first), chain.begin(segments), chain.advance(alpha))
        joint = before * chain.spread(here)
        norm = chain.total(joint)
        alpha = joint / chain.each(or_one(norm))
        return alpha, (alpha, norm)

    nothing = jnp.zeros((likelihood.shape[1], *chain.shape))
    _, (alphas, norms) = jax.lax.scan(
        step, nothing, (layout.positions == 0, layout.segments, likelihood)
    )
    return alphas, norms


class Moment(NamedTuple):
    """What the backward recursion knows of one event of each row, cells as of `Chain`.

    Attributes:
        alpha: float32 [B, K(, D)], p(cell | events so far).
        posterior: float32 [B, K], p(state | all events of the user); 0 on padding.
        arrival: float32 [B, K(, D)], such that p(cell i at t - 1, cell j at t | all events) is
            alpha[t - 1, i] p(i to j) arrival[t, j]; 0 on padding.
        onward: float32 [B, K(, D)], `arrival` of the user's next event; 0 after his last.
    """

    alpha: jax.Array
    posterior: jax.Array
    arrival: jax.Array
    onward: jax.Array


def fold_backward(
    params: HmmParams,
    layout: Layout,
    likelihood: jax.Array,
    alphas: jax.Array,
    norms: jax.Array,
    visit: Callable[[Tree, Moment, Tree], tuple[Tree, Tree]],
    sums: Tree,
    facts: Tree = None,
) -> tuple[Tree, Tree, jax.Array]:
    """Runs the scaled backward recursion and shows every event, the last first, to `visit`.

    What is summed over events is summed on the way, while it lies in the cache.

    Args:
        params: the model.
        layout: time-major [T, B].
        likelihood: float32 [T, B, K] of `observe`.
        alphas: of `forward`.
        norms: float32 [T, B] of `forward`.
        visit: (sums, moment, facts of the event [B, ...]) to (sums, output).
        sums: what `visit` starts from.
        facts: arrays [T, B, ...].

    Returns:
        The final sums, the outputs stacked over T, and p(end | events so far) float32 [T, B].
    """
    chain = Chain.of(params)
    end_cells = chain.end_cells()[None]

    def step(carry: tuple[jax.Array, Tree], event: tuple) -> tuple[Tree, Tree]:
        later, sums = carry
        last, keep, here, alpha, norm, fact = event
        end = chain.end(alpha)
        onward = jnp.where(chain.each(last | ~keep), 0.0, later)
        stopped = jnp.where(chain.each(last), end_cells * chain.each(_inverse(end)), 0.0)
        beta = chain.retreat(onward) + stopped
        arrival = beta * chain.spread(here) * chain.each(_inverse(norm))
        posterior = chain.states(alpha * beta)
        sums, output = visit(sums, Moment(alpha, posterior, arrival, onward), fact)
        return (arrival, sums), (output, end)

    events = (layout.lasts, layout.positions >= 0, likelihood, alphas, norms, facts)
    (_, sums), (outputs, ends) = jax.lax.scan(
        step, (jnp.zeros_like(alphas[0]), sums), events, reverse=True
    )
    return sums, outputs, ends


def backward(
    params: HmmParams,
    layout: Layout,
    likelihood: jax.Array,
    alphas: jax.Array,
    norms: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns `Moment.posterior` [T, B, K] and `Moment.arrival` [T, B, K(, D)] of all events."""

    def visit(sums: None, moment: Moment, fact: None) -> tuple[None, tuple[jax.Array, jax.Array]]:
        return sums, (moment.posterior, moment.arrival)

    return fold_backward(params, layout, likelihood, alphas, norms, visit, None)[1]


def sample_path(
    params: HmmParams, layout: Layout, alphas: jax.Array, uniforms: jax.Array
) -> jax.Array:
    """Draws states int32 [T, B] from their joint posterior, backwards; no meaning on padding.

    Args:
        params: the model.
        layout: time-major [T, B].
        alphas: float32 [T, B, K] of `forward`, with durations [T, B, K, D].
        uniforms: float32 [T, B] in [0, 1).

    Reference:
        Chib (1996), "Calculating posterior distributions and modal estimates in Markov mixture
        models", Sec. 2 (forward filter, backward sample).
    """
    chain = Chain.of(params)
    towards, rows = chain.go_on.T, jnp.arange(alphas.shape[1])
    num_states = params.num_states

    def step(
        later: tuple[jax.Array, jax.Array], event: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        state, left = later
        last, alpha, uniform = event
        factor = jnp.where(last[:, None], params.stop[None, :], take_rows(towards, state))
        odds = chain.leaving(alpha) * factor
        if chain.duration is None:
            state = draw_index(odds, uniform)
            return (state, left), state
        # Either a stay ended here and the later one was entered, or the later one went on here.
        odds *= jnp.where(last, 1.0, chain.duration[state, left])[:, None]
        more = jnp.pad(alpha, ((0, 0), (0, 0), (0, 1)))[rows, state, left + 1]
        odds = jnp.concatenate([odds, jnp.where(last, 0.0, more)[:, None]], axis=1)
        choice = draw_index(odds, uniform)
        stays = choice == num_states
        state, left = (
            jnp.where(stays, state, choice),
            jnp.where(stays, jnp.minimum(left + 1, chain.shape[1] - 1), 0),
        )
        return (state, left), state

    start = jnp.zeros(alphas.shape[1], jnp.int32)
    _, states = jax.lax.scan(step, (start, start), (layout.lasts, alphas, uniforms), reverse=True)
    return states


def event_log_likelihood(
    layout: Layout,
    observation: Observation,
    norms: jax.Array,
    ends: jax.Array,
) -> jax.Array:
    """Returns log p(event | events before) float32 [T, B], with the stop at the last event.

    Args:
        layout: time-major [T, B].
        observation: of `observe`.
        norms: float32 [T, B] of `forward`.
        ends: float32 [T, B], p(end | events so far), `Chain.end` of the alphas.
    """
    real = layout.positions >= 0
    # Norms of padding may be 0, whose log would make gradients NaN.
    value = jnp.log(jnp.where(real, norms, 1.0)) + observation.log_scale
    value += jnp.where(layout.lasts, jnp.log(jnp.where(layout.lasts, ends, 1.0)), 0.0)
    return jnp.where(real, value, 0.0)


def forward_of(
    params: HmmParams, events: Events, *, leave_out: bool = False
) -> tuple[Layout, Observation, jax.Array, jax.Array]:
    """Returns time-major layout and observation of `events` [B, T], and `forward` over them."""
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, norms = forward(params, layout, observation.likelihood)
    return layout, observation, alphas, norms


def draw_index(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draws int32 [B] with odds weights [B, K], one uniform [B] each; for few outcomes only."""
    sums = jnp.cumsum(weights, axis=-1)
    index = (sums <= uniform[:, None] * sums[:, -1:]).sum(-1)
    return jnp.minimum(index, weights.shape[-1] - 1).astype(jnp.int32)


def _inverse(value: jax.Array) -> jax.Array:
    return jnp.where(value > 0, 1.0 / or_one(value), 0.0)
