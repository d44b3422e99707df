"""What a hidden state emits: action, gap bin and item, and how likely an event is in each state.

The item of an event comes from a mixture: the state's own item distribution (`PlainItems`, or
`CategoryItems` = category in state x item in category) or, with the state's probability `mix`, the
kernel on previous items (`recjax.hmm.kernel`). An own distribution is a pytree with the methods
`rows`, `block`, `count`, `estimate`, `log_prior`; a new family is one more class here. Learning and
inference do not live here; they call `observe`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.events import Array, Layout, or_one, take_rows
from recjax.hmm.kernel_explanation import KernelExplanation, explain_by_kernel

if TYPE_CHECKING:
    from recjax.hmm.parameters import HmmParams


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlainItems:
    """One free probability per item and state.

    Attributes:
        table: float32 [V, K], column k is the item distribution of state k. Items come first, so
            that an event reads K neighbouring numbers.
    """

    table: Array

    @property
    def num_items(self) -> int:
        """V."""
        return self.table.shape[0]

    def rows(self, items: jax.Array) -> jax.Array:
        """Returns float32 [..., K], the probability of each item in every state."""
        return take_rows(self.table, items)

    def block(self, first: int, size: int) -> jax.Array:
        """Returns float32 [size, K], the probabilities of items first, first + 1, ..."""
        return jax.lax.slice_in_dim(jnp.asarray(self.table), first, first + size)

    def zero_counts(self) -> dict[str, jax.Array]:
        """Returns empty expected counts, {"table": [V, K]}."""
        return {"table": jnp.zeros_like(self.table)}

    def count(
        self, counts: dict[str, jax.Array], items: jax.Array, weights: jax.Array
    ) -> dict[str, jax.Array]:
        """Adds weights [..., K] of events with items [...] to the expected counts."""
        return {"table": counts["table"].at[items].add(weights, mode="drop")}

    def prior(self, smoothing: float, popularity: np.ndarray) -> dict[str, np.ndarray]:
        """Returns pseudo-counts [V, 1]: smoothing x V events per state, spread by popularity."""
        share = (popularity + 1.0) / (popularity.sum() + popularity.size)
        return {"table": (smoothing * popularity.size * share).astype(np.float32)[:, None]}

    def estimate(self, counts: dict[str, jax.Array], prior: dict[str, Array]) -> PlainItems:
        """Returns the distribution that the counts [V, K] call for."""
        return PlainItems(normalise(counts["table"] + prior["table"], self.table, axis=0))

    def log_prior(self, prior: dict[str, Array], alive: Array) -> jax.Array:
        """Returns the log density [] of the prior up to a constant, over states alive [K]."""
        return weighted_log(prior["table"] * alive[None, :], self.table)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CategoryItems:
    """The state chooses a category; within it the items' shares are common to all states.

    Attributes:
        category: float32 [K, C], rows sum to 1.
        item_in_category: float32 [V], sums to 1 over the items of each category.
        category_of: int32 [V], category of each item.
    """

    category: Array
    item_in_category: Array
    category_of: Array

    @property
    def num_items(self) -> int:
        """V."""
        return self.item_in_category.shape[0]

    def rows(self, items: jax.Array) -> jax.Array:
        """Returns float32 [..., K], the probability of each item in every state."""
        categories = take_rows(self.category_of, items)
        by_category = take_rows(jnp.swapaxes(jnp.asarray(self.category), 0, 1), categories)
        return by_category * take_rows(self.item_in_category, items)[..., None]

    def block(self, first: int, size: int) -> jax.Array:
        """Returns float32 [size, K], the probabilities of items first, first + 1, ..."""
        return self.rows(jnp.arange(first, first + size))

    def zero_counts(self) -> dict[str, jax.Array]:
        """Returns empty expected counts, {"category": [C, K], "item": [V]}."""
        return {
            "category": jnp.zeros_like(jnp.swapaxes(jnp.asarray(self.category), 0, 1)),
            "item": jnp.zeros_like(self.item_in_category),
        }

    def count(
        self, counts: dict[str, jax.Array], items: jax.Array, weights: jax.Array
    ) -> dict[str, jax.Array]:
        """Adds weights [..., K] of events with items [...] to the expected counts."""
        categories = take_rows(self.category_of, items)
        return {
            "category": counts["category"].at[categories].add(weights, mode="drop"),
            "item": counts["item"].at[items].add(weights.sum(-1), mode="drop"),
        }

    def prior(self, smoothing: float, popularity: np.ndarray) -> dict[str, np.ndarray]:
        """Returns pseudo-counts [1, 1] and [1], `smoothing` per cell."""
        del popularity
        return {
            "category": np.full((1, 1), smoothing, np.float32),
            "item": np.full(1, smoothing, np.float32),
        }

    def estimate(self, counts: dict[str, jax.Array], prior: dict[str, Array]) -> CategoryItems:
        """Returns the distribution that the counts [C, K] and [V] call for."""
        by_state = jnp.swapaxes(counts["category"] + prior["category"], 0, 1)
        item = counts["item"] + prior["item"]
        totals = jax.ops.segment_sum(item, self.category_of, self.category.shape[1])
        total = take_rows(totals, jnp.asarray(self.category_of))
        within = jnp.where(total > 0, item / jnp.where(total > 0, total, 1), self.item_in_category)
        return CategoryItems(normalise(by_state, self.category), within, self.category_of)

    def log_prior(self, prior: dict[str, Array], alive: Array) -> jax.Array:
        """Returns the log density [] of the prior up to a constant, over states alive [K]."""
        by_category = weighted_log(prior["category"] * alive[:, None], self.category)
        return by_category + weighted_log(prior["item"], self.item_in_category)


ItemEmission = PlainItems | CategoryItems


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observation:
    """How every state explains every event; axes [T, B, ...] as in the layout it was made from.

    Attributes:
        likelihood: float32 [T, B, K], p(action, gap, item | state) over its largest value, 1 on
            padding.
        log_scale: float32 [T, B], log of that largest value, 0 on padding.
        item: float32 [T, B, K], p(item | state, previous items).
        kernel_share: float32 [T, B, K], part of `item` that the kernel gives; None without kernel.
        kernel: what the kernel says about the events; None without kernel.
    """

    likelihood: jax.Array
    log_scale: jax.Array
    item: jax.Array
    kernel_share: jax.Array | None
    kernel: KernelExplanation | None


def observe(params: HmmParams, layout: Layout, *, leave_out: bool) -> Observation:
    """Returns the emission probabilities of all events.

    Args:
        params: the model.
        layout: time-major [T, B].
        leave_out: static; True takes each event's own counts out of the kernel that explains it,
            for events the kernel was counted from.
    """
    item, share, kernel = item_probability(params, layout, leave_out=leave_out)
    likelihood = item
    if params.action.shape[1] > 1 or params.gap.shape[1] > 1:
        likelihood = likelihood * _context_probability(params, layout)
    if layout.states is not None:
        states = jnp.arange(params.num_states)[None, None, :]
        known = layout.states[..., None]
        likelihood = jnp.where((known < 0) | (known == states), likelihood, 0.0)
    real = layout.positions >= 0
    likelihood = jnp.where(real[..., None], likelihood, 1.0)
    scale = likelihood.max(-1)
    likelihood = likelihood / or_one(scale)[..., None]
    return Observation(likelihood, jnp.log(scale), item, share, kernel)


def item_probability(
    params: HmmParams, layout: Layout, *, leave_out: bool
) -> tuple[jax.Array, jax.Array | None, KernelExplanation | None]:
    """Returns p(item | state, previous items) [T, B, K], and the kernel's share and explanation."""
    own = params.items.rows(layout.items)
    if params.kernel is None:
        return own, None, None
    kernel = explain_by_kernel(params.kernel, layout, leave_out=leave_out)
    mix = jnp.where(kernel.available[..., None], params.mix[None, None, :], 0.0)
    via_kernel = mix * kernel.probability[..., None]
    item = (1.0 - mix) * own + via_kernel
    return item, via_kernel / or_one(item), kernel


def _context_probability(params: HmmParams, layout: Layout) -> jax.Array:
    """p(action, gap | state) [T, B, K]; one gather from a joint table, without unknown gaps."""
    num_states, num_actions = params.action.shape
    no_gap = jnp.ones((num_states, 1), jnp.float32)
    gap = jnp.concatenate([jnp.asarray(params.gap), no_gap], axis=1)
    joint = jnp.asarray(params.action)[:, :, None] * gap[:, None, :]
    table = jnp.moveaxis(joint, 0, -1).reshape(-1, num_states)
    known = (layout.positions > 0) & (layout.gaps >= 0)
    gaps = jnp.where(known, layout.gaps, gap.shape[1] - 1)
    return take_rows(table, layout.actions * gap.shape[1] + gaps)


def normalise(counts: jax.Array, fallback: Array, axis: int = -1) -> jax.Array:
    """Returns counts [..., N] over their sum; where nothing was counted, the fallback."""
    total = counts.sum(axis, keepdims=True)
    return jnp.where(total > 0, counts / or_one(total), fallback)


def weighted_log(weights: jax.Array, probabilities: Array) -> jax.Array:
    """Returns the sum [] of weights x log probabilities [...], 0 where the weight is 0."""
    weights = jnp.broadcast_to(weights, probabilities.shape)
    counted = weights > 0
    return jnp.sum(
        jnp.where(counted, weights * jnp.log(jnp.where(counted, probabilities, 1.0)), 0.0)
    )
