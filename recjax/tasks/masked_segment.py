"""Masked segment (S3-Rec): which span was cut out of this sequence, among those of all others?

Called by the trainer through the task interface (see `recjax.tasks`).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from recjax.losses import info_nce
from recjax.models import fold_in_rows, row_uniform, unit_vectors
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import DenseHeadTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import hide
from recjax.tasks.sequences import draw_window, keep_only, pool, select_sequences, spans_of


@dataclasses.dataclass(frozen=True)
class MaskedSegment(DenseHeadTask):
    """Matches a sequence with a hidden span to that span, against the spans of other sequences.

    All spans have the same length and count their positions from 0, and gaps are hidden with their
    events: neither length, place nor time gives the span away.

    Attributes:
        causal: how the encoder reads.
        span_len: events of a span; sequences with more of them take part.
        temperature: of the likenesses.
        sequences_per_row: most sequences of a row that take part, drawn.

    Raises:
        ValueError: if a setting is out of range.

    Reference:
        Zhou et al. (2020), "S3-Rec: Self-Supervised Learning for Sequential Recommendation with
        Mutual Information Maximization", segment prediction; spans of one length are ours.
    """

    causal: bool = False
    span_len: int = 3
    temperature: float = 0.1
    sequences_per_row: int = 8
    name: ClassVar[str] = "masked_segment"
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("span_len", "sequences_per_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def _head_width(self) -> int:
        return self.encoder.hidden_dim

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"masked_segment": (sum of nats, weight)} over picked sequences.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B]; None draws by the row's content, always in the same way.
            train: whether dropout is on (static).
        """
        keys = row_draws.content_keys(batch["items"]) if keys is None else keys
        longer = spans_of(batch["segments"]).length > self.span_len
        order = row_uniform(keys, row_draws.SEQUENCE_CHOICE, longer.shape[1:])
        slots = min(self.sequences_per_row, max(1, longer.shape[1] // (self.span_len + 1)))
        numbers, weights = select_sequences(batch, longer, slots, order)
        vectors = []
        for part, site in zip(self.cut(batch, keys), row_draws.VIEWS, strict=True):
            dropout_keys = fold_in_rows(keys, site) if train else None
            hidden = self.encode(params, part, constants, causal=self.causal, keys=dropout_keys)
            pooled = pool(hidden, part["segments"], numbers, causal=self.causal)
            vectors.append(pooled.reshape(-1, pooled.shape[-1]))
        sequences = unit_vectors(vectors[0])
        spans = unit_vectors(self._apply_head(params, vectors[1]))
        own, scale = jnp.arange(len(spans)), jnp.float32(1 / self.temperature)
        return {self.name: info_nce(sequences, spans, own, weights.reshape(-1), scale)}

    def cut(self, batch: Batch, keys: jax.Array) -> tuple[Batch, Batch]:
        """Returns the batch with a hidden span per sequence, and the spans by themselves."""
        spans = spans_of(batch["segments"])
        inside, first = draw_window(keys, row_draws.SPAN, spans, self.span_len)
        inside &= spans.length > self.span_len
        encoder = self.encoder
        holed = hide(
            batch, inside, hidden_action=encoder.num_actions, hidden_gap=encoder.num_gap_bins
        )
        return holed, keep_only(batch, inside, first)
