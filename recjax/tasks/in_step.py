"""Losses of events that a training step mixes or shifts, beside the loss of them as they are.

The settings and the pure functions of arrays are `recjax.expansion.on_device`'s. Called by
`next_item`, which says what the hidden states and the targets are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from recjax.expansion.on_device import Adversary, InStep, VirtualAdversary
from recjax.losses.negatives import draw_negatives
from recjax.models import NUM_SPECIALS, fold_in_rows
from recjax.models.item_axis import look_up
from recjax.tasks import row_draws
from recjax.tasks.parameters import Params
from recjax.tasks.positions import take

Sum = tuple[jax.Array, jax.Array]  # a sum and its weight
Losses = dict[str, Sum]
# (params, shift of the embedded events [B, T, D] or None) -> hidden states float [B, S, D]
HiddenFn = Callable[[Params, jax.Array | None], jax.Array]
# (params, hidden [B, S, D], targets [B, S], weights [B, S]) -> sum of nats and weight
LossFn = Callable[[Params, jax.Array, jax.Array, jax.Array], Sum]
TableFn = Callable[[Params], tuple[jax.Array, jax.Array]]  # params -> table [V, D], bias [V]
_NEVER = -1e30  # finite: 0 times it is 0


@dataclass(frozen=True)
class Asked:
    """A task's question in one step.

    Attributes:
        hidden_of: the encoder, its last layer at the targets.
        item_loss: the loss over items, the same draws at every call.
        item_table: the output layer.
        targets: int32 [B, S].
        weights: float32 [B, S], 0 where there is no target.
        keys: typed PRNG keys [B]; None outside of training: nothing is mixed or shifted.
        num_ids: V, ids from here on are no items.
    """

    hidden_of: HiddenFn
    item_loss: LossFn
    item_table: TableFn
    targets: jax.Array
    weights: jax.Array
    keys: jax.Array | None
    num_ids: int


def mixed_loss(in_step: InStep, asked: Asked, params: Params, hidden: jax.Array) -> Sum:
    """Returns the loss of hidden states [B, S, D], mixed in pairs where that is on."""
    if asked.keys is None or not in_step.mixup_alpha:
        return asked.item_loss(params, hidden, asked.targets, asked.weights)
    keys = fold_in_rows(asked.keys, row_draws.MIXTURE)
    partners, share = in_step.draw_mixture(keys, asked.weights)
    kept = share[..., None].astype(hidden.dtype)
    hidden = kept * hidden + (1 - kept) * take(hidden, partners)
    own = asked.item_loss(params, hidden, asked.targets, share * asked.weights)
    weights = (1 - share) * take(asked.weights, partners)
    other = asked.item_loss(params, hidden, take(asked.targets, partners), weights)
    return own[0] + other[0], own[1] + other[1]


def shifted_losses(in_step: InStep, asked: Asked, params: Params, embedded: jax.Array) -> Losses:
    """Returns the losses "adversarial" and "virtual" of those that are on, times their weights.

    Args:
        in_step: settings.
        asked: the question.
        params: of the task.
        embedded: float [B, T, D], the events that are shifted, without a gradient.
    """
    losses = {}
    if asked.keys is not None and in_step.adversary.acts:
        losses["adversarial"] = _adversarial_loss(in_step.adversary, asked, params, embedded)
    if asked.keys is not None and in_step.virtual.weight:
        losses["virtual"] = _virtual_loss(in_step.virtual, asked, params, embedded, asked.keys)
    return losses


def _adversarial_loss(
    adversary: Adversary, asked: Asked, params: Params, embedded: jax.Array
) -> Sum:
    held = jax.lax.stop_gradient(params)

    def loss(params: Params, shift: jax.Array) -> Sum:
        hidden = asked.hidden_of(params, shift)
        return asked.item_loss(params, hidden, asked.targets, asked.weights)

    shift = adversary.shift(lambda shift: loss(held, shift)[0], embedded)
    total, weight = loss(params, shift)
    return adversary.weight * total, weight


def _virtual_loss(
    virtual: VirtualAdversary, asked: Asked, params: Params, embedded: jax.Array, keys: jax.Array
) -> Sum:
    """The divergence of answers among the row's targets and drawn items: over all it is dense."""
    held = jax.lax.stop_gradient(params)
    item_keys = fold_in_rows(keys, row_draws.VIRTUAL_ITEMS)
    drawn, _ = draw_negatives(item_keys, virtual.items, num_ids=asked.num_ids, proposal="uniform")
    items = jnp.concatenate([asked.targets, drawn], axis=1)

    def answer(params: Params, shift: jax.Array | None) -> jax.Array:
        hidden = asked.hidden_of(params, shift)
        table, bias = asked.item_table(params)
        rows, biases = look_up(table, items), look_up(bias[:, None], items)[..., 0]
        logits = jnp.einsum(
            "bsd,bnd->bsn", hidden, rows.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
        return jax.nn.log_softmax(
            jnp.where((items >= NUM_SPECIALS)[:, None], logits + biases[:, None], _NEVER)
        )

    clean = answer(held, None)

    def divergence(params: Params, shift: jax.Array) -> jax.Array:
        nats = (jnp.exp(clean) * (clean - answer(params, shift))).sum(-1)
        return jnp.sum(asked.weights * nats)

    first_keys = fold_in_rows(keys, row_draws.VIRTUAL)
    shift = virtual.shift(first_keys, lambda shift: divergence(held, shift), embedded)
    return virtual.weight * divergence(params, shift), asked.weights.sum()
