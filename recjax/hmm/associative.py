"""The recursions over time as products of matrices, which an associative scan does in parallel.

Same results as `recursions.forward` and `recursions.backward`, in log2(T) steps instead of T, for
K log2(T) times the work: for few, long sequences and few states. `use_associative` decides;
`inference` asks it.

Every event is a matrix [K, K] of going on from each state and making the event; rows are kept at
sum 1 beside the log of what they summed to, up to what all rows share, so that nothing runs out of
float32 however long the sequence. The first event of a user forgets what came before (a segmented
scan).

Reference:
    Sarkka and Garcia-Fernandez (2021), "Temporal Parallelization of Bayesian Smoothers"; for
    discrete states Hassan, Sarkka and Garcia-Fernandez (2021), "Temporal Parallelization of
    Inference in Hidden Markov Models".
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.events import Layout
from recjax.hmm.parameters import HmmParams
from recjax.hmm.state_chain import go_on_matrix, matmul, start_rows

_NEVER = -1e30  # log of 0 that can be added and subtracted
_HIGHEST = 80.0  # log of a number that is still a float32

# Backend: (fewest steps T, most cells B x K x K) within which the associative scan was faster.
FASTER_WITHIN: dict[str, tuple[int, int]] = {}

_Element = tuple[jax.Array, jax.Array, jax.Array]  # rows [.., K, K], logs [.., K], resets [.., 1]


def use_associative(num_steps: int, num_rows: int, num_states: int, backend: str) -> bool:
    """Says whether the associative scan is the faster way; all arguments are static.

    The rule is what `benchmarks/hmm_time_parallel.py` measured. On 2 CPU cores the recursion was
    2.9 to 65 times faster at T 256 and 2,048, B 1 and 16, K 2 and 16: one step of it took .04 to
    2.2 microseconds. So the CPU has no entry in the table. Backends that were not measured keep the
    recursion, too: an entry needs a run of that benchmark there.

    Args:
        num_steps: T.
        num_rows: B.
        num_states: K.
        backend: of `jax.default_backend()`.
    """
    fewest_steps, most_cells = FASTER_WITHIN.get(backend, (num_steps + 1, 0))
    return num_steps >= fewest_steps and num_rows * num_states**2 <= most_cells


def forward(
    params: HmmParams, layout: Layout, likelihood: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes what `recursions.forward` does, in parallel over time.

    Args:
        params: the model.
        layout: time-major [T, B].
        likelihood: float32 [T, B, K] of `observe`.

    Returns:
        alphas float32 [T, B, K] and norms float32 [T, B]; memory is T x B x K x K.
    """
    go_on, is_first = go_on_matrix(params), (layout.positions == 0)[..., None]
    start = start_rows(params, layout.segments)
    begin = (start[None] if layout.segments is None else start) * likelihood
    moves = go_on[None, None] * likelihood[..., None, :]
    rows = jnp.where(is_first[..., None], begin[..., None, :], moves)
    rows, logs, _ = _products(_then, (*_scaled(rows), is_first))
    before = jnp.where(logs[..., :1] > 0.5 * _NEVER, rows[..., 0, :], 0.0)  # all rows are the same
    before = jnp.concatenate([jnp.zeros_like(before[:1]), before[:-1]])
    joint = jnp.where(is_first, begin, matmul(before, go_on) * likelihood)
    norms = joint.sum(-1)
    return joint / jnp.where(norms > 0, norms, 1.0)[..., None], norms


def backward(
    params: HmmParams,
    layout: Layout,
    likelihood: jax.Array,
    alphas: jax.Array,
    norms: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes what `recursions.backward` does, in parallel over time.

    Args:
        params: the model.
        layout: time-major [T, B].
        likelihood: float32 [T, B, K] of `observe`.
        alphas: float32 [T, B, K] of `forward`.
        norms: float32 [T, B] of `forward`.

    Returns:
        posteriors and arrivals, float32 [T, B, K]; memory is T x B x K x K.
    """
    later = jnp.concatenate([likelihood[1:], jnp.zeros_like(likelihood[:1])])
    is_last = layout.lasts[..., None]
    moves = go_on_matrix(params)[None, None] * later[..., None, :]
    rows = jnp.where(is_last[..., None], params.stop[None, None, :, None], moves)
    flipped = jax.tree.map(lambda leaf: jnp.flip(leaf, 0), (*_scaled(rows), is_last))
    _, logs, _ = _products(lambda after, here: _then(here, after, forget=here[2]), flipped)
    logs = jnp.flip(logs, 0)
    possible = logs > 0.5 * _NEVER
    beta = jnp.where(possible, jnp.exp(jnp.where(possible, logs, 0.0)), 0.0)
    total = (alphas * beta).sum(-1, keepdims=True)
    known = (layout.positions >= 0)[..., None] & (total > 0)
    beta = jnp.where(known, beta / jnp.where(known, total, 1.0), 0.0)
    norms = norms[..., None]
    arrivals = jnp.where(norms > 0, beta * likelihood / jnp.where(norms > 0, norms, 1.0), 0.0)
    return alphas * beta, arrivals


def _products(combine: Callable[[_Element, _Element], _Element], elements: _Element) -> _Element:
    """Products of all elements [T, ...] up to each, with the earlier one first in `combine`.

    Doubling: log2(T) rounds in a loop, T products each. `jax.lax.associative_scan` makes 2 T
    products in all, but unrolls its 2 log2(T) rounds, and took the longer to compile by far.
    """
    num_steps = elements[0].shape[0]
    places = jnp.arange(num_steps)
    strides = jnp.asarray(2 ** np.arange(max(num_steps - 1, 0).bit_length()), jnp.int32)

    def double(element: _Element, stride: jax.Array) -> tuple[_Element, None]:
        earlier = jax.tree.map(lambda leaf: jnp.roll(leaf, stride, axis=0), element)
        joined = combine(earlier, element)

        def keep_first(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(jnp.expand_dims(places >= stride, range(1, new.ndim)), new, old)

        return jax.tree.map(keep_first, joined, element), None

    return jax.lax.scan(double, elements, strides)[0]


def _scaled(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows [..., K, K] at sum 1 (or 0), and the logs [..., K] of their sums."""
    total = rows.sum(-1)
    alive = total > 0
    total = jnp.where(alive, total, 1.0)
    return rows / total[..., None], jnp.where(alive, jnp.log(total), _NEVER)


def _then(left: _Element, right: _Element, forget: jax.Array | None = None) -> _Element:
    """The product of two elements, left first in time.

    Where a user begins in the right one (or `forget`) nothing of the other side is left.
    """
    rows, logs, resets = left
    reached = jnp.where(rows > 0, right[1][..., None, :], _NEVER)
    top = jax.lax.stop_gradient(reached.max(-1))  # so that the likeliest way never underflows
    # Above 0 for moves of probability 0 only, which have a gradient nevertheless.
    ways = rows * jnp.exp(jnp.minimum(right[1][..., None, :] - top[..., None], _HIGHEST))
    product, scale = _scaled(matmul(ways, right[0]))
    scale = logs + top + scale
    # What all rows share says nothing, and would grow until no digits are left for the rest.
    scale -= jax.lax.stop_gradient(scale.max(-1, keepdims=True))
    scale = jnp.where((scale > 0.5 * _NEVER) & (product.sum(-1) > 0), scale, _NEVER)
    begins, kept = (right[2], right) if forget is None else (forget, left)
    product = jnp.where(begins[..., None], kept[0], product)
    return product, jnp.where(begins, kept[1], scale), resets | right[2]
