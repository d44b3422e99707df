"""Random words by row and time: the bits behind every draw.

One counter-based hash per pair of 32-bit words, written out so that XLA fuses it with what reads
it. `jax.random.bits` uses the same hash but keeps half of its output, loops over its rounds on CPU
and takes one key per call. What the words choose is decided in `sampling`.

Reference:
    Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3" (Threefry-2x32, 20 rounds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp

# Purposes of words, two to a hash: pairs that are wanted together cost half.
_PAIRS = (
    ("move", "start"),
    ("item", "accept"),
    ("action", "gap"),
    ("mix", "category"),
    ("pick", "back"),
)
_PURPOSES = {
    name: (pair, half) for pair, names in enumerate(_PAIRS) for half, name in enumerate(names)
}
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(
    key: tuple[jax.Array, jax.Array], counter: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns two random words uint32 [...] for a key of two words and two counters [...]."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    left, right = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            left = left + right
            right = ((right << rotation) | (right >> (32 - rotation))) ^ left
        left = left + keys[(block + 1) % 3]
        right = right + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return left, right


def as_uniform(word: jax.Array) -> jax.Array:
    """Returns the upper 24 bits [...] as float32 [...] in [0, 1)."""
    return (word >> 8).astype(jnp.float32) * 2.0**-24


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowWords:
    """Streams of random words, one per row.

    Attributes:
        keys: uint32 [B, 2].
    """

    keys: jax.Array

    @classmethod
    def of(cls, key: jax.Array, rows: jax.Array) -> RowWords:
        """Returns the streams of rows int32 [B]; each depends on (key, its row number) only."""
        words = jax.random.key_data(key).ravel()
        number = jnp.asarray(rows).astype(jnp.uint32)
        hashed = threefry((words[0], words[-1]), (number, jnp.zeros_like(number)))
        return cls(jnp.stack(hashed, axis=-1))

    def uniform(self, purpose: str, time: jax.Array | int) -> jax.Array:
        """Returns float32 [B] in [0, 1) in steps of 2^-24, for choices among few outcomes only."""
        return as_uniform(self.word(purpose, time))

    def word(self, purpose: str, time: jax.Array | int, attempt: jax.Array | int = 0) -> jax.Array:
        """Returns the words of one purpose, uint32 [B], or [T, B] for a time int32 [T, 1].

        Args:
            purpose: one of `_PURPOSES`.
            time: step int32 [].
            attempt: which draw of the same choice, int32 [] or [B].
        """
        return self.words((purpose,), time, attempt)[purpose]

    def words(
        self, purposes: Iterable[str], time: jax.Array | int, attempt: jax.Array | int = 0
    ) -> dict[str, jax.Array]:
        """Returns the words of several purposes, each uint32 [B] or [T, B] as `word` gives it.

        The words are held in memory before they are read: fused into the gathers that follow, the
        hash would be computed cell by cell and once for every reader, ten times slower on CPU.
        """
        found: dict[str, jax.Array] = {}
        for pair in sorted({_PURPOSES[purpose][0] for purpose in purposes}):
            hashed = self._hash(pair, jnp.asarray(time), attempt)
            found |= zip(_PAIRS[pair], hashed, strict=True)
        return jax.lax.optimization_barrier({purpose: found[purpose] for purpose in purposes})

    def _hash(
        self, pair: int, time: jax.Array, attempt: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        key = (self.keys[:, 0], self.keys[:, 1])
        if time.ndim:
            key = (key[0][None], key[1][None])
        shape = jnp.broadcast_shapes(time.shape, key[0].shape)
        first = jnp.broadcast_to(time.astype(jnp.uint32), shape)
        number = jnp.asarray(attempt, jnp.uint32) * jnp.uint32(len(_PAIRS)) + jnp.uint32(pair)
        return threefry(key, (first, jnp.broadcast_to(number, shape)))
