"""Next session: is the second half of a sequence its own continuation, or another user's?

BERT's next sentence, for behaviour. Called by the trainer through the task interface (see
`recjax.tasks`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from recjax.losses import sigmoid_cross_entropy
from recjax.models import row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import DenseHeadTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import take
from recjax.tasks.sequences import members, per_sequence, pool, select_sequences, spans_of


@dataclasses.dataclass(frozen=True)
class NextSession(DenseHeadTask):
    """Tells sequences with a foreign second half from real ones.

    The foreign half is the end of the longest sequence of the batch's next row, as long as the half
    that it takes the place of: length says nothing.

    Attributes:
        causal: how the encoder reads.
        foreign_share: of the sequences, 0 < share < 1.

    Raises:
        ValueError: if the share is out of range.

    Reference:
        Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language
        Understanding", Sec. 3.1, task 2.
    """

    causal: bool = False
    foreign_share: float = 0.5
    name: ClassVar[str] = "next_session"
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.foreign_share < 1:
            raise ValueError(f"foreign_share must be above 0 and below 1, got {self.foreign_share}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"next_session": (sum of nats, weight)} over sequences of two and more events.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        spliced, foreign, may = self.splice(batch, keys)
        segments = batch["segments"]
        slots, order = max(1, segments.shape[1] // 2), jnp.zeros(segments.shape)
        numbers, weights = select_sequences(batch, may, slots, order)
        dropout_keys = keys if train else None
        hidden = self.encode(params, spliced, constants, causal=self.causal, keys=dropout_keys)
        logits = self._apply_head(params, pool(hidden, segments, numbers, causal=self.causal))
        labels = (members(segments, numbers) & foreign[:, None, :]).any(axis=-1)
        labels = labels.astype(jnp.float32)
        return {self.name: sigmoid_cross_entropy(logits[..., 0], labels, weights)}

    def splice(self, batch: Batch, keys: jax.Array | None) -> tuple[Batch, jax.Array, jax.Array]:
        """Puts foreign second halves in.

        Returns:
            The batch; bool [B, T], True where an item now is another one (a foreign half that
            equals the own one is no foreign half); bool [B, T], True on the events of sequences
            that have two halves and for which a foreign one was there, drawn or not.
        """
        keys = row_draws.content_keys(batch["items"]) if keys is None else keys
        spans = spans_of(batch["segments"])
        half = spans.length // 2
        start, length = _longest_of_next_row(spans.start, spans.length)
        may = (half > 0) & (half <= length)
        draw = per_sequence(row_uniform(keys, row_draws.FOREIGN, half.shape[1:]), spans)
        to_end = spans.length - spans.place
        swap = may & (draw < self.foreign_share) & (to_end <= half)
        source = start + length - to_end
        spliced = {
            name: jnp.where(swap, take(jnp.roll(batch[name], -1, axis=0), source), batch[name])
            for name in ("items", "actions", "gaps")
        }
        return batch | spliced, spliced["items"] != batch["items"], may

    def _head_width(self) -> int:
        return 1


def _longest_of_next_row(start: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Start and length int32 [B, 1] of the longest sequence of the row that follows, in a ring."""
    at = jnp.argmax(length, axis=1)[:, None]
    start, length = (jnp.roll(take(part, at), -1, axis=0) for part in (start, length))
    return start, length
