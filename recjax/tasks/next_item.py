"""Next item prediction over the whole catalogue, causal or with a [MASK] at the end.

Called by the trainer through the task interface (see `recjax.tasks`), and by evaluation, which
ranks `queries` against `item_table`.
"""

import dataclasses
from typing import ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.expansion.on_device import InStep
from recjax.expansion.teacher import Teacher
from recjax.models import NUM_SPECIALS, fold_in_rows
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import ItemTask
from recjax.tasks.in_step import Asked, mixed_loss, shifted_losses
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import hide, is_first, is_last, mark, select_smallest, take


@dataclasses.dataclass(frozen=True)
class NextItem(ItemTask):
    """Next item prediction.

    Attributes:
        causal: True: every event predicts the next one of its segment. False: the last event of
            each segment is hidden and predicted from the others (one target per segment).
        soft_targets: weight of the teacher's distribution in the target, 0 to 1; the rest is on
            the item that came. Above 0 the constants hold a `recjax.expansion.Teacher`.
        in_step: what training does beside the loss of the events as they are.

    Raises:
        ValueError: if the encoder cannot read in this direction, or there can be no soft targets.
    """

    causal: bool = True
    soft_targets: float = 0.0
    in_step: InStep = InStep()
    name: ClassVar[str] = "next_item"

    def __post_init__(self) -> None:
        self.encoder.check_direction(self.causal)
        if not 0 <= self.soft_targets <= 1:
            raise ValueError(f"soft_targets must be from 0 to 1, got {self.soft_targets}")
        if self.soft_targets and not self.causal:
            raise ValueError("soft_targets needs causal reading: the teacher looks forward only")
        if self.soft_targets and self.item_loss.loss == "gbce":
            raise ValueError("soft_targets needs the loss 'full' or 'sampled', got 'gbce'")
        if self.soft_targets and self.in_step.mixup_alpha:
            raise ValueError("soft_targets needs mixup_alpha = 0: what is mixed has two targets")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"next_item": (sum of nats, weight)}; targets never cross segments.

        In training `in_step` can add "next_item_adversarial", the loss of shifted events, and
        "next_item_virtual", how far their answers diverge, each times its own weight.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T];
                a target's weight is that of its own event.
            constants: item_category int32 [V] where "category" is an input; the teacher of soft
                targets.
            keys: typed PRNG keys [B] for dropout and drawn negatives, or None.
            train: whether dropout is on (static).
        """
        batch, positions, targets, weights = self.ask(batch)
        step_keys = keys if train else None

        def hidden_of(params: Params, shift: jax.Array | None) -> jax.Array:
            hidden = self._encode_shifted(params, batch, constants, shift, step_keys)
            return hidden if positions is None else take(hidden, positions)

        def item_loss(
            params: Params, hidden: jax.Array, targets: jax.Array, weights: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            return self._item_loss(params, hidden, targets, weights, keys)

        ids = self.encoder.vocab_size
        asked = Asked(hidden_of, item_loss, self.item_table, targets, weights, step_keys, ids)
        hidden = hidden_of(params, None)
        total, weight = mixed_loss(self.in_step, asked, params, hidden)
        if self.soft_targets:
            teacher = cast(Teacher, constants["teacher"])
            change = self._soften(params, teacher, batch, hidden, targets, weights)
            total += self.soft_targets * change
        held = jax.lax.stop_gradient(params)
        embedded = self._call_encoder(held, "embed", batch, constants)
        others = shifted_losses(self.in_step, asked, params, embedded)
        return {self.name: (total, weight)} | {f"{self.name}_{k}": v for k, v in others.items()}

    def ask(self, batch: Batch) -> tuple[Batch, jax.Array | None, jax.Array, jax.Array]:
        """Returns what is predicted where.

        Args:
            batch: items, actions, gaps, segments int32 [B, T], weights float32 [B, T].

        Returns:
            The batch to encode; the positions int32 [B, S] that are asked, None for all; target
            items int32 [B, S] and their weights float32 [B, S], 0 where there is no target. S is T
            where causal, else T // 2.
        """
        return self._causal_targets(batch) if self.causal else self._last_targets(batch)

    def queries(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Encodes histories into one query per row, to be ranked against `item_table`.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T] (history left-aligned,
                segments 1 on events and 0 after), lengths int32 [B].
            constants: item_category int32 [V] where "category" is an input.

        Returns:
            float32 [B, D]; zeros for an empty history, so that the item bias (in effect
            popularity) alone ranks there.
        """
        lengths = batch["lengths"]
        if self.causal:
            last = lengths - 1
        else:
            batch, last = self._append_query(batch)
        hidden = self.encode(params, batch, constants, causal=self.causal)
        query = take(hidden, jnp.maximum(last, 0)[:, None])[:, 0].astype(jnp.float32)
        return jnp.where((lengths > 0)[:, None], query, 0)

    def _encode_shifted(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        shift: jax.Array | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Embeds, adds noise and a shift [B, T, D], and encodes; without keys no noise."""
        x = self._call_encoder(params, "embed", batch, constants)
        if keys is not None:
            x = self.in_step.add_noise(fold_in_rows(keys, row_draws.NOISE), x)
        x = x if shift is None else x + shift
        return self._call_encoder(params, "encode", x, batch, self.causal, keys)

    def _soften(
        self,
        params: Params,
        teacher: Teacher,
        batch: Batch,
        hidden: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
    ) -> jax.Array:
        """The weighted sum of target logit - mean logit under the teacher, float32 [].

        Added to the cross-entropy of the targets [B, T] it gives that of the teacher. On a mesh
        that cuts the item table every device holds the rows that the teacher knows.
        """
        table, bias = self.item_table(params)
        rows = jnp.concatenate([table, bias[:, None]], axis=1)
        mean = teacher.expected_rows(batch, jnp.take(rows, teacher.item_ids, axis=0))
        change = jnp.take(rows, targets, axis=0, mode="clip") - mean
        hidden = jnp.pad(hidden.astype(jnp.float32), ((0, 0), (0, 0), (0, 1)), constant_values=1)
        weights = jnp.where(targets >= NUM_SPECIALS, weights, 0)
        return jnp.sum(weights * jnp.where(weights > 0, (hidden * change).sum(-1), 0))

    def _causal_targets(self, batch: Batch) -> tuple[Batch, None, jax.Array, jax.Array]:
        """Targets and weights [B, T] of position t are those of event t + 1 of its segment."""
        follows = (batch["segments"] > 0) & ~is_last(batch["segments"])
        targets = jnp.pad(batch["items"][:, 1:], ((0, 0), (0, 1)))
        weights = jnp.pad(batch["weights"][:, 1:], ((0, 0), (0, 1)))
        return batch, None, targets, jnp.where(follows, weights, 0)

    def _last_targets(self, batch: Batch) -> tuple[Batch, jax.Array, jax.Array, jax.Array]:
        """Hides the last event of each segment of two and more; targets [B, T // 2]."""
        segments, items = batch["segments"], batch["items"]
        asked = is_last(segments) & ~is_first(segments) & (items >= NUM_SPECIALS)
        slots = max(1, items.shape[1] // 2)
        score = jnp.where(asked, 0.0, 1.0)
        positions, chosen = select_smallest(score, 1.0, slots)
        weights = jnp.where(chosen, take(batch["weights"], positions), 0)
        hidden = self._hide(batch, mark(positions, chosen, items.shape[1]))
        return hidden, positions, take(items, positions), weights

    def _append_query(self, batch: Batch) -> tuple[Batch, jax.Array]:
        """Puts [MASK] behind each history; a full row first loses its oldest event."""
        length = batch["items"].shape[1]
        full = (batch["lengths"] == length).astype(jnp.int32)
        steps = jnp.arange(length, dtype=jnp.int32)[None]
        names = ("items", "actions", "gaps")
        shifted = {name: take(batch[name], steps + full[:, None]) for name in names}
        last = batch["lengths"] - full
        shifted["positions"] = jnp.broadcast_to(steps, batch["items"].shape)
        shifted["segments"] = (steps <= last[:, None]).astype(jnp.int32)
        return self._hide(shifted, steps == last[:, None]), last

    def _hide(self, batch: Batch, where: jax.Array) -> Batch:
        encoder = self.encoder
        return hide(
            batch, where, hidden_action=encoder.num_actions, hidden_gap=encoder.num_gap_bins
        )
