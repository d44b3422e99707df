"""What the model expects next, at every event at once: the mean of item vectors under it.

Its probabilities of the next item [B, T, V] are never made: the states' share of the mean is one
product over the catalogue for all events together, the kernel's a sum over neighbours. Traced,
without checks. One distribution per user is in `prediction`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recjax.hmm.emissions import observe
from recjax.hmm.events import Layout, or_one, take_rows, time_major
from recjax.hmm.kernel import Kernel
from recjax.hmm.kernel_explanation import shifted
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import forward
from recjax.hmm.state_chain import Chain, matmul


def expected_next_rows(
    params: HmmParams, layout: Layout, table: jax.Array, *, leave_out: bool = False
) -> jax.Array:
    """Returns sum over items of p(next item | events so far) x its row, float32 [B, T, D].

    Linear in the table, so it can be differentiated through. That an event follows is given.

    Args:
        params: the model.
        layout: users [B, T], several in a row welcome; an item of -1 is not known and says nothing.
        table: float [V, D], a row per item.
        leave_out: static; True takes each event's own counts out of the kernel that explains it
            (not out of what it predicts), for users that the kernel was counted from.
    """
    layout = time_major(layout)
    state = _next_states(params, layout, leave_out=leave_out)
    by_state = matmul(params.items.block(0, params.items.num_items).T, table)
    if params.kernel is None:
        return jnp.swapaxes(matmul(state, by_state), 0, 1)
    by_kernel, available = _kernel_rows(params.kernel, layout, table)
    mix = jnp.where(available[..., None], params.mix, 0.0)
    mean = matmul(state * (1.0 - mix), by_state)
    return jnp.swapaxes(mean + (state * mix).sum(-1, keepdims=True) * by_kernel, 0, 1)


def _next_states(params: HmmParams, layout: Layout, *, leave_out: bool) -> jax.Array:
    """p(state of the next event | events so far, and that it comes), float32 [T, B, K]."""
    likelihood = observe(params, layout, leave_out=leave_out).likelihood
    likelihood = jnp.where((layout.items >= 0)[..., None], likelihood, 1.0)
    alphas, _ = forward(params, layout, likelihood)
    chain = Chain.of(params)
    moved = chain.states(chain.advance(alphas))
    return moved / or_one(moved.sum(-1, keepdims=True))


def _kernel_rows(kernel: Kernel, layout: Layout, table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean row [T, B, D] under the kernel alone, and whether it has one, bool [T, B]."""

    def mean_row(items: jax.Array) -> jax.Array:
        neighbours = take_rows(kernel.neighbours, items)
        damped = take_rows(kernel.counts, items) * take_rows(kernel.scale, neighbours)
        weights = damped / or_one(take_rows(kernel.totals, items))[:, None]
        return jnp.einsum("bn,bnd->bd", weights, take_rows(table, neighbours))

    by_item = jax.lax.map(mean_row, layout.items)  # [T, B, N, D] would be too large
    has_row = (layout.items >= 0) & (take_rows(kernel.totals, layout.items) > 0)
    total, odds = jnp.zeros_like(by_item), jnp.zeros(layout.items.shape)
    for lag in range(kernel.window):
        usable = shifted(has_row, lag, False) & (layout.positions >= lag)
        share = jnp.where(usable, jnp.asarray(kernel.lags)[lag], 0.0)
        total += share[..., None] * shifted(by_item, lag, 0)
        odds += share
    return total / or_one(odds)[..., None], odds > 0
