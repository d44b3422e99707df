"""The scaled recursions over time that learning, inference and draws share.

Float32, over time-major layouts; traced, without checks. What users of the package call is in
`inference`, `prediction`, `learning` and `sampling`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.hmm.emissions import Observation, observe
from recjax.hmm.events import Events, Layout, lay_out, or_one, take_rows, time_major
from recjax.hmm.parameters import HmmParams


def matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """Product [..., M, N] in full float32; accelerators would round the factors."""
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
    go_on = go_on_matrix(params)

    def step(
        alpha: jax.Array, event: tuple[jax.Array, jax.Array | None, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        first, segments, here = event
        moved = matmul(alpha, go_on)
        joint = jnp.where(first[:, None], start_rows(params, segments), moved) * here
        norm = joint.sum(-1)
        alpha = joint / jnp.where(norm > 0, norm, 1.0)[:, None]
        return alpha, (alpha, norm)

    _, (alphas, norms) = jax.lax.scan(
        step,
        jnp.zeros_like(likelihood[0]),
        (layout.positions == 0, layout.segments, likelihood),
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
    go_back = go_on_matrix(params).T
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


def sample_path(
    params: HmmParams, layout: Layout, alphas: jax.Array, uniforms: jax.Array
) -> jax.Array:
    """Draws states int32 [T, B] from their joint posterior, backwards; no meaning on padding.

    Args:
        params: the model.
        layout: time-major [T, B].
        alphas: float32 [T, B, K] of `forward`.
        uniforms: float32 [T, B] in [0, 1).

    Reference:
        Chib (1996), "Calculating posterior distributions and modal estimates in Markov mixture
        models", Sec. 2 (forward filter, backward sample).
    """
    towards = go_on_matrix(params).T

    def step(
        later: jax.Array, event: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        last, alpha, uniform = event
        factor = jnp.where(last[:, None], params.stop[None, :], take_rows(towards, later))
        state = draw_index(alpha * factor, uniform)
        return state, state

    start = jnp.zeros(alphas.shape[1], jnp.int32)
    _, states = jax.lax.scan(step, start, (layout.lasts, alphas, uniforms), reverse=True)
    return states


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


def start_rows(params: HmmParams, segments: jax.Array | None) -> jax.Array:
    """Returns p(first state) [B, K] of users of segments [B]; without segments [1, K], of all."""
    start = jnp.asarray(params.start)
    return start[:1] if segments is None else take_rows(start, segments)


def go_on_matrix(params: HmmParams) -> jax.Array:
    """Probability [K, K] of going on from state i and then being in state j."""
    return (1.0 - params.stop)[:, None] * params.transition


def _inverse(value: jax.Array) -> jax.Array:
    return jnp.where(value > 0, 1.0 / or_one(value), 0.0)
