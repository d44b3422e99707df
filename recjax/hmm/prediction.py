"""What comes next: the model as a recommender, and the perplexity of items.

Public functions check their input on the host and are jitted inside; called under another jit they
trace through. `next_state_distribution` and `previous_items` serve `sampling` too.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from recjax.hmm.emissions import observe
from recjax.hmm.events import Events, lay_out, or_one, take_rows, time_major
from recjax.hmm.parameters import HmmParams
from recjax.hmm.recursions import forward, forward_of
from recjax.hmm.state_chain import Chain, matmul, start_rows
from recjax.hmm.validation import validate_input


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
    validate_input(params, events)
    return _item_log_likelihood(params, events, leave_out=leave_out)


@functools.partial(jax.jit, static_argnames="leave_out")
def _item_log_likelihood(params: HmmParams, events: Events, *, leave_out: bool) -> jax.Array:
    layout = time_major(lay_out(events))
    observation = observe(params, layout, leave_out=leave_out)
    alphas, _ = forward(params, layout, observation.likelihood)
    chain = Chain.of(params)
    moved = chain.states(chain.advance(alphas[:-1]))
    moved /= or_one(moved.sum(-1, keepdims=True))
    start = jnp.broadcast_to(start_rows(params, events.segments)[None], (1, *moved.shape[1:]))
    expected = jnp.concatenate([start, moved])
    item = (expected * observation.item).sum(-1)
    return jnp.where(layout.positions >= 0, jnp.log(item), 0.0).sum(0)


def next_state_distribution(
    params: HmmParams, events: Events, *, leave_out: bool = False
) -> jax.Array:
    """Returns p(state of the next event | events, and that one follows), float32 [B, K].

    Of a padding row it is the start distribution. With `leave_out` (static) each event's own counts
    are taken out of the kernel, which must not seem to have foreseen them. Traceable; checks
    nothing.
    """
    return Chain.of(params).states(next_cells(params, events, leave_out=leave_out))


def next_cells(params: HmmParams, events: Events, *, leave_out: bool = False) -> jax.Array:
    """Returns `next_state_distribution` by cells of `Chain`, with durations [B, K, D]."""
    layout, _, alphas, _ = forward_of(params, events, leave_out=leave_out)
    chain = Chain.of(params)
    moved = chain.advance((alphas * chain.each(layout.lasts)).sum(0))
    total = chain.each(chain.total(moved))
    return jnp.where(total > 0, moved / or_one(total), chain.begin(events.segments))


def next_item_distribution(
    params: HmmParams,
    events: Events,
    *,
    first_item: int = 0,
    num_items: int | None = None,
    leave_out: bool = False,
) -> jax.Array:
    """Returns p(item of the next event | events, and that one follows), float32 [B, size].

    Args:
        params: the model.
        events: histories.
        first_item: static; first item of the slice of the catalogue that is wanted.
        num_items: static size of the slice; None: up to the end.
        leave_out: static; True for users that the kernel was counted from: without it, states that
            follow the kernel look far likelier than they are.

    Raises:
        ValueError: if a table is no distribution, an id or the slice is out of range.
    """
    validate_input(params, events)
    size = params.items.num_items - first_item if num_items is None else num_items
    if not (0 <= first_item and size >= 1 and first_item + size <= params.items.num_items):
        raise ValueError(
            f"items {first_item}..{first_item + size - 1}: expected within the "
            f"{params.items.num_items} items"
        )
    return _next_item_distribution(
        params, events, first_item=first_item, size=size, leave_out=leave_out
    )


def next_item_scores(
    params: HmmParams,
    events: Events,
    *,
    first_item: int = 0,
    num_items: int | None = None,
    leave_out: bool = False,
) -> jax.Array:
    """Returns the log [B, V] of `next_item_distribution`; the model as a recommender."""
    return jnp.log(
        next_item_distribution(
            params, events, first_item=first_item, num_items=num_items, leave_out=leave_out
        )
    )


@functools.partial(jax.jit, static_argnames=("first_item", "size", "leave_out"))
def _next_item_distribution(
    params: HmmParams, events: Events, *, first_item: int, size: int, leave_out: bool
) -> jax.Array:
    state = next_state_distribution(params, events, leave_out=leave_out)
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
    return jnp.where(places >= 0, rows, -1), share / or_one(share.sum(-1, keepdims=True))
