"""Fused attention kernels, and which one serves an encoder on a platform.

A fused kernel never writes the [T, T] weights to memory, which pays for long rows. None of them was
timed for recjax: no GPU or TPU was at hand. The cuDNN path was not run at all, only what is handed
to it was compared; the TPU kernel was run step by step on a CPU, forward and backward, and compiled
by the real TPU compiler. Called by `recjax.models.attention` and, for the choice, by
`recjax.models.event_encoder`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

PLATFORMS = {"cudnn": "gpu", "splash": "tpu"}
KERNELS = ("xla", *PLATFORMS)
_FUSED_LENGTH = (
    512  # "auto" takes XLA below: the weights of a head are 1 MiB, and it needs no tiles
)
_TILE = 128


def choose_kernel(
    asked: str,
    *,
    platform: str,
    length: int,
    head_dim: int,
    dtype: str,
    dropout_rate: float,
    has_bias: bool,
) -> str:
    """Returns the kernel, one of `KERNELS`.

    Args:
        asked: "auto", or a kernel, which is then returned if it can serve.
        platform: of the devices that compute: "cpu", "gpu" or "tpu".
        length: T, of the longest row.
        head_dim: D / H.
        dtype: compute dtype.
        dropout_rate: on the attention weights.
        has_bias: whether something is added to the scores.

    Raises:
        ValueError: if the kernel asked for is unknown, or cannot serve; it says why and what would.
    """
    if asked not in ("auto", *KERNELS):
        raise ValueError(f"attention must be one of {['auto', *KERNELS]}, got {asked!r}")
    settings = (platform, length, head_dim, dtype, dropout_rate, has_bias)
    if asked == "auto":
        fitting = [name for name in PLATFORMS if not _obstacles(name, *settings)]
        return fitting[0] if fitting and length >= _FUSED_LENGTH else "xla"
    if obstacles := _obstacles(asked, *settings):
        raise ValueError(f"attention {asked!r} needs {', '.join(obstacles)}; 'xla' takes all")
    return asked


def _obstacles(
    kernel: str,
    platform: str,
    length: int,
    head_dim: int,
    dtype: str,
    dropout_rate: float,
    has_bias: bool,
) -> list[str]:
    """What would have to be otherwise for the kernel to serve."""
    if kernel == "xla":
        return []
    wanted = {
        f"a {PLATFORMS[kernel]} (not {platform})": platform == PLATFORMS[kernel],
        f"attention_dropout_rate 0 (not {dropout_rate})": dropout_rate == 0,
        "relative_bias ()": not has_bias,
    }
    if kernel == "cudnn":
        wanted[f"dtype 'bfloat16' (not {dtype!r})"] = dtype == "bfloat16"
        fits = head_dim % 8 == 0 and head_dim <= 128
        wanted[f"heads of a multiple of 8 up to 128 (not {head_dim})"] = fits
        wanted[f"an even max_len (not {length})"] = length % 2 == 0
    else:
        wanted[f"max_len a multiple of {_TILE} (not {length})"] = length % _TILE == 0
    return [text for text, holds in wanted.items() if not holds]


def attend_cudnn(
    query: jax.Array, key: jax.Array, value: jax.Array, segments: jax.Array, *, causal: bool
) -> jax.Array:
    """Attention by cuDNN's flash kernel; see `recjax.models.attend`.

    Args:
        query: bfloat16 [B, T, H, D]; key and value likewise.
        key: bfloat16 [B, T, H, D].
        value: bfloat16 [B, T, H, D].
        segments: int32 [B, T].
        causal: whether a position is kept from seeing later ones (static).

    Returns:
        bfloat16 [B, T, H, D].
    """
    mask = (segments[:, :, None] == segments[:, None, :])[:, None]
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask, is_causal=causal, implementation="cudnn"
    )


def attend_splash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array,
    *,
    causal: bool,
    interpret: bool = False,
) -> jax.Array:
    """Attention by JAX's splash kernel for TPUs; see `recjax.models.attend`.

    The compiler cannot cut a kernel: under the rules of a mesh each device runs it on its own rows
    and heads.

    Args:
        query: float [B, T, H, D]; key and value likewise; T a multiple of 128.
        key: float [B, T, H, D].
        value: float [B, T, H, D].
        segments: int32 [B, T].
        causal: whether a position is kept from seeing later ones (static).
        interpret: runs the kernel step by step on any device, for tests (static).

    Returns:
        float [B, T, H, D].
    """
    run = partial(_splash, causal=causal, interpret=interpret)
    rows, heads = (
        _axes_that_divide(name, query.shape[axis]) for name, axis in (("batch", 0), ("heads", 2))
    )
    if rows or heads:
        parts = PartitionSpec(rows or None, None, heads or None, None)
        run = jax.shard_map(
            run,
            in_specs=(parts, parts, parts, PartitionSpec(rows or None, None)),
            out_specs=parts,
            check_vma=False,
        )
    return run(query, key, value, segments)


def _axes_that_divide(name: str, size: int) -> tuple[str, ...]:
    """Axes of the mesh in force that a logical axis lies along; none where they do not divide."""
    axes = tuple(dict(nn.get_logical_axis_rules()).get(name) or ())
    shape = jax.sharding.get_abstract_mesh().shape
    return axes if size % math.prod(shape[axis] for axis in axes) == 0 else ()


def _splash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array,
    *,
    causal: bool,
    interpret: bool,
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention

    length, num_heads, head_dim = query.shape[1:]
    mask_type = splash_attention.CausalMask if causal else splash_attention.FullMask
    mask = splash_attention.MultiHeadMask([mask_type((length, length))] * num_heads)
    kernel = splash_attention.make_splash_mha_single_device(mask, interpret=interpret)
    by_head = [jnp.swapaxes(x, 1, 2) for x in (query * head_dim**-0.5, key, value)]
    ids = splash_attention.SegmentIds(segments, segments)
    return jnp.swapaxes(jax.vmap(kernel)(*by_head, ids), 1, 2).astype(value.dtype)
