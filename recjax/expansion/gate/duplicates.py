"""Indices that remember which users were seen, exactly and nearly, in bounded memory.

Not here: what happens to a copy (`run`). Memory for one user: 8 bytes exact; near, with the default
64 hashes in 8 bands, 64 (signature) + 64 (bands) + 4 (owner) = 132 bytes. Ten million users take
about 1.4 GB; a merge of one band needs 160 MB more for a moment.
"""

import numpy as np

from recjax.expansion.gate import minhash

NONE = -1  # entry of a user that is like no other
_MAX_MATCHES = 4  # users of one bucket that are compared: equal ones need not all be looked at
_ID_BITS = np.uint64(32)
_ID_MASK = np.uint64(0xFFFFFFFF)


class SortedRuns:
    """A growing multiset of uint64 in sorted arrays, merged so that there are few of them.

    Reference:
        O'Neil et al. (1996), "The log-structured merge-tree".
    """

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Adds uint64 [n]; runs of similar size are merged, so lookups stay logarithmic."""
        if not len(values):
            return
        self.runs.append(np.sort(values))
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            last, before = self.runs.pop(), self.runs.pop()
            merged = np.concatenate([before, last])
            merged.sort(kind="stable")  # merges the two sorted halves
            self.runs.append(merged)

    def contains(self, values: np.ndarray) -> np.ndarray:
        """Returns bool [n]."""
        found = np.zeros(len(values), bool)
        for run in self.runs:
            places = np.minimum(np.searchsorted(run, values), len(run) - 1)
            found |= run[places] == values
        return found


class ExactIndex:
    """Hashes of whole item sequences."""

    def __init__(self) -> None:
        self._runs = SortedRuns()

    def add(self, hashes: np.ndarray) -> None:
        """Remembers uint64 [B]."""
        self._runs.add(hashes)

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """Returns bool [B]: which sequences were added before."""
        return self._runs.contains(hashes)

    def compute_twin_share(self) -> float:
        """Returns the share of the sequences that were added more than once."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._runs.runs])
        times_added = np.unique(hashes, return_counts=True)[1]
        return float(times_added[times_added > 1].sum() / max(len(hashes), 1))


class NearIndex:
    """MinHash signatures with banding: has a user this similar been seen?"""

    def __init__(self, num_hashes: int, threshold: float) -> None:
        """Makes an empty index.

        Args:
            num_hashes: H, columns of the MinHash values that will be added.
            threshold: Jaccard similarity from which two users count as copies, in (0, 1].
        """
        self._threshold = threshold
        self._band_rows = minhash.choose_band_rows(num_hashes, threshold)
        self._bands = [SortedRuns() for _ in range(num_hashes // self._band_rows)]
        self._signatures = np.zeros((0, num_hashes), np.uint8)
        self._owners = np.zeros(0, np.int32)
        self.size = 0

    def add(self, minhashes: np.ndarray, owners: np.ndarray) -> None:
        """Remembers uint32 [B, H], each with the int32 user that it belongs to (NO_USER: none)."""
        count = len(minhashes)
        self._reserve(self.size + count)
        ids = np.arange(self.size, self.size + count, dtype=np.uint64)
        self._signatures[self.size : self.size + count] = minhashes.astype(np.uint8)
        self._owners[self.size : self.size + count] = owners
        keys = minhash.compute_band_keys(minhashes, self._band_rows)
        for band, runs in enumerate(self._bands):
            runs.add((keys[:, band] << _ID_BITS) | ids)
        self.size += count

    def find_originals(
        self,
        minhashes: np.ndarray,
        *,
        not_of: np.ndarray | None = None,
        before: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns int64 [B], the first entry found that is similar enough; NONE: there is none.

        Entries are numbered from 0 in the order in which they were added.

        Args:
            minhashes: uint32 [B, H].
            not_of: int32 [B] or None: a row is not held against this owner.
            before: int64 [B] or None: a row is held against earlier entries than this one only.
        """
        unknown = np.iinfo(np.int64).max
        originals = np.full(len(minhashes), unknown)
        signatures = minhashes.astype(np.uint8)
        keys = minhash.compute_band_keys(minhashes, self._band_rows) << _ID_BITS
        for band, runs in enumerate(self._bands):
            for run in runs.runs:
                for rows, ids in _matches(run, keys[:, band]):
                    similar = minhash.estimate_similarity(signatures[rows], self._signatures[ids])
                    hit = similar >= self._threshold
                    if not_of is not None:
                        hit &= self._owners[ids] != not_of[rows]
                    if before is not None:
                        hit &= ids < before[rows]
                    originals[rows[hit]] = np.minimum(originals[rows[hit]], ids[hit])
        return np.where(originals == unknown, NONE, originals)

    def _reserve(self, size: int) -> None:
        if size > len(self._owners):
            capacity = max(size, len(self._owners) * 17 // 16, 1024)
            # realloc in place: no second copy of the largest arrays while they grow
            self._signatures.resize((capacity, self._signatures.shape[1]), refcheck=False)
            self._owners.resize(capacity, refcheck=False)


def _matches(run: np.ndarray, keys: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pairs (rows, entry ids) that share a band key, lowest entry ids first."""
    starts = np.searchsorted(run, keys)
    pairs = []
    for step in range(_MAX_MATCHES):
        places = starts + step
        entries = run[np.minimum(places, len(run) - 1)]
        rows = np.nonzero((places < len(run)) & ((entries ^ keys) <= _ID_MASK))[0]
        if not len(rows):
            break
        pairs.append((rows, (entries[rows] & _ID_MASK).astype(np.int64)))
    return pairs
