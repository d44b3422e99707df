"""How far apart two events of a row are, as buckets with a learned bias per head.

"position" counts events; "gap" is the time between them, added up from the gap bins. Both grow by
logarithms and know past from future, so that one table serves both directions. Buckets are made
once a batch, by `recjax.models.event_encoder`; each layer has tables of its own, in
`recjax.models.attention` and `recjax.models.hstu`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.initialisers import partitioned, table_init

MEASURES = ("position", "gap")
_EXACT = 8  # distances below it have a bucket each; beyond it there are two per doubling
_POSITION_SIDE = 16  # buckets of the past; as many of the future
_GAP_SIDE = 32
_UNKNOWN = 2 * _GAP_SIDE
_NUM_BUCKETS = {"position": 2 * _POSITION_SIDE, "gap": _UNKNOWN + 1}


class Relations(NamedTuple):
    """What a block may know of pairs of events, besides the events themselves.

    Attributes:
        segments: int32 [B, T]; 0 is padding, equal numbers belong together.
        buckets: by measure, int32 [B, T, T] or [1, T, T]: bucket of (query, key).
    """

    segments: jax.Array
    buckets: dict[str, jax.Array]


def position_buckets(length: int) -> jax.Array:
    """Returns buckets int32 [1, T, T] of the distance between places of a row.

    Args:
        length: T (static).

    Reference:
        Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified
        Text-to-Text Transformer", Sec. 2.1: 32 buckets, from distance 128 on all in the last.
    """
    steps = jnp.arange(length, dtype=jnp.int32)
    past = steps[:, None] - steps[None, :]
    distance = jnp.abs(past)
    far = 2 + _floor_log2(distance * distance)  # integers have exact bounds, logarithms have not
    bucket = jnp.where(distance < _EXACT, distance, jnp.minimum(far, _POSITION_SIDE - 1))
    return jnp.where(past < 0, bucket + _POSITION_SIDE, bucket)[None]


def elapsed_buckets(gaps: jax.Array, *, num_gap_bins: int, max_len: int) -> jax.Array:
    """Returns buckets int32 [B, T, T] of the time between two events of one segment.

    A gap bin b > 1 stands for 2^(b-1) seconds, 0 and 1 for none; their sum between two events has
    the bucket floor(log2(1 + seconds)). Neighbours thus get the bin of their gap, less 1. A pair
    that a hidden gap lies between has a bucket of its own. Sums are exact in int32: a gap counts
    as at most 2^(31 - bits of max_len) seconds, 388 days for max_len 50 and 12 for 1024.

    Args:
        gaps: int32 [B, T]; `num_gap_bins` means hidden.
        num_gap_bins: bins (static); the last holds all longer gaps too.
        max_len: events of the longest segment (static).
    """
    hidden = gaps >= num_gap_bins
    exponents = jnp.clip(gaps - 1, 0, 31 - max_len.bit_length())
    seconds = jnp.where((gaps > 1) & ~hidden, jnp.left_shift(1, exponents), 0)
    # Differences stay right within a segment even where the sum over a whole row wraps around.
    clock, num_hidden = (jnp.cumsum(x.astype(jnp.int32), axis=1) for x in (seconds, hidden))
    elapsed = jnp.abs(clock[:, :, None] - clock[:, None, :])
    steps = jnp.arange(gaps.shape[1])
    future = (steps[:, None] < steps[None, :])[None]
    bucket = _floor_log2(1 + elapsed) + jnp.where(future, _GAP_SIDE, 0)
    return jnp.where(num_hidden[:, :, None] == num_hidden[:, None, :], bucket, _UNKNOWN)


class RelativeBias(nn.Module):
    """What is added to the scores of attention: per measure, a number by bucket and head.

    Attributes:
        num_heads: H.
    """

    num_heads: int

    @nn.compact
    def __call__(self, buckets: dict[str, jax.Array]) -> jax.Array | None:
        """Sums float32 [B or 1, H, T, T] over the measures of `Relations`; None without any."""
        total = None
        for name, bucket in buckets.items():
            shape = (_NUM_BUCKETS[name], self.num_heads)
            table = self.param(name, partitioned(table_init, (None, "heads")), shape, jnp.float32)
            bias = jnp.moveaxis(jnp.take(table, bucket, axis=0, mode="clip"), -1, 1)
            total = bias if total is None else total + bias
        return total


def _floor_log2(number: jax.Array) -> jax.Array:
    return 31 - jax.lax.clz(number)
