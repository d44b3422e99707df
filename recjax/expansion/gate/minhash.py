"""MinHash signatures of users and the banding that finds similar ones without comparing all pairs.

Not here: the index of signatures (`duplicates`). Two users' similarity is the Jaccard index of
their sets of shingles (runs of items); a signature estimates it from a fixed number of bytes.

Reference:
    Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman and
    Ullman (2020), "Mining of Massive Datasets", section 3.4 (banding).
"""

import numpy as np

from recjax.expansion.gate.hashing import hash_shingles, mix

_FULL = np.uint32(0xFFFFFFFF)
_DETECTION = 0.98  # least chance that banding brings up a pair that lies at the threshold


def compute_minhashes(
    items: np.ndarray, lengths: np.ndarray, *, num_hashes: int, shingle_len: int
) -> np.ndarray:
    """Returns uint32 [B, H], the least value of each of H hash functions over a user's shingles.

    Two rows agree in a share of columns that estimates their Jaccard similarity, with a standard
    error of sqrt(J (1 - J) / H). Memory: a few arrays of B x T x 8 bytes.

    Args:
        items: int64 [B, T], padded on the right.
        lengths: int64 [B]; a user without events gets all bits set.
        num_hashes: H.
        shingle_len: events per shingle.
    """
    shingles, mask = hash_shingles(items, lengths, shingle_len)
    multipliers = mix(np.arange(num_hashes)) | np.uint64(1)
    offsets = mix(np.arange(num_hashes) + num_hashes)
    minima = np.empty((len(items), num_hashes), np.uint32)
    for column in range(num_hashes):
        with np.errstate(over="ignore"):
            values = (shingles * multipliers[column] + offsets[column]) >> np.uint64(32)
        values = np.where(mask, values.astype(np.uint32), _FULL)
        minima[:, column] = values.min(axis=1, initial=_FULL)
    return minima


def choose_band_rows(num_hashes: int, threshold: float) -> int:
    """Returns the rows per band: as many as still find pairs at the threshold.

    More rows mean fewer bands, less memory and fewer pairs to compare; too many miss true pairs.
    The chance to find a pair of similarity J with b bands of r rows is 1 - (1 - J^r)^b.

    Example:
        >>> choose_band_rows(64, 0.9)
        8
    """
    for rows in range(num_hashes, 0, -1):
        if num_hashes % rows == 0:
            found = 1 - (1 - threshold**rows) ** (num_hashes // rows)
            if found >= _DETECTION:
                return rows
    return 1


def compute_band_keys(minhashes: np.ndarray, band_rows: int) -> np.ndarray:
    """Returns uint64 [B, bands] of 32-bit keys; similar users share at least one of them."""
    num_rows, num_hashes = minhashes.shape
    bands = minhashes.reshape(num_rows, num_hashes // band_rows, band_rows).astype(np.uint64)
    keys = np.zeros(bands.shape[:2], np.uint64)
    with np.errstate(over="ignore"):
        for row in range(band_rows):
            keys = mix(keys + bands[:, :, row])
    return keys >> np.uint64(32)


def estimate_similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns float64 [B], the Jaccard similarity that two sets of 8-bit signatures suggest.

    Args:
        left: uint8 [B, H], the low bytes of MinHash values.
        right: uint8 [B, H].

    Reference:
        Li and Koenig (2010), "b-Bit minwise hashing": 1 / 256 of the columns agree by accident.
    """
    agree = (left == right).mean(axis=1)
    return np.maximum(0.0, (agree - 1 / 256) / (1 - 1 / 256))
