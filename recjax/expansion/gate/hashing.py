"""64-bit hashes of item sequences and of their shingles, for many users at once.

Not here: what is done with the hashes (`minhash`, `duplicates`). Hashes depend on the item ids and
nothing else, so that two runs, or two machines, agree.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray) -> np.ndarray:
    """Returns uint64 values scattered one to one over all 64 bits.

    Reference:
        Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators" (SplitMix64).
    """
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64 on purpose
        values = np.asarray(values).astype(np.uint64) + _GOLDEN
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def hash_sequences(items: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns uint64 [B], equal for equal item sequences in the same order.

    Args:
        items: int64 [B, T], padded on the right with anything.
        lengths: int64 [B], events of each row, at most T.
    """
    positions = np.arange(items.shape[1], dtype=np.uint64)
    with np.errstate(over="ignore"):
        cells = mix(items.astype(np.uint64) ^ mix(positions))
        cells[positions[None, :] >= lengths[:, None].astype(np.uint64)] = 0
        return mix(cells.sum(axis=1, dtype=np.uint64) + lengths.astype(np.uint64))


def hash_bags(items: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns uint64 [B], equal for users with the same items, however ordered.

    Args:
        items: int64 [B, T], padded on the right with anything.
        lengths: int64 [B].
    """
    cells = mix(items)
    cells[np.arange(items.shape[1]) >= lengths[:, None]] = 0
    with np.errstate(over="ignore"):
        return mix(cells.sum(axis=1, dtype=np.uint64) + lengths.astype(np.uint64))


def hash_shingles(
    items: np.ndarray, lengths: np.ndarray, shingle_len: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hash of every run of `shingle_len` items, and which of them exist.

    Args:
        items: int64 [B, T], padded on the right with anything.
        lengths: int64 [B].
        shingle_len: events per shingle; a shorter user has one shingle, the whole sequence.

    Returns:
        hashes uint64 [B, T] (the shingle that starts at t) and mask bool [B, T].
    """
    num_rows, width = items.shape
    positions = np.arange(width + shingle_len)
    padded = np.zeros((num_rows, width + shingle_len), np.uint64)
    padded[:, :width] = items
    padded[positions[None, :] >= lengths[:, None]] = 0
    hashes = np.zeros((num_rows, width), np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(shingle_len):
            hashes = mix(hashes + padded[:, offset : offset + width])
    num_shingles = np.maximum(lengths - shingle_len + 1, np.minimum(lengths, 1))
    return hashes, positions[None, :width] < num_shingles[:, None]


def bucket_cells(
    hashes: np.ndarray, mask: np.ndarray, num_buckets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns int64 [N] of a table [B, num_buckets], one cell per hash in use.

    Args:
        hashes: uint64 [B, T].
        mask: bool [B, T], N of them set: the hashes in use.
        num_buckets: columns that the hashes are folded into.

    Reference:
        Weinberger et al. (2009), "Feature hashing for large scale multitask learning".
    """
    columns = (hashes[mask] % np.uint64(num_buckets)).astype(np.int64)
    return np.nonzero(mask)[0], columns
