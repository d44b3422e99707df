"""How near draws come to single real users, and whether that tells who was trained on.

Two questions, both on evenly spread samples, so that time and memory are bounded: are draws nearer
to real users than real users are to each other, and are users that the generator was fitted on
nearer to the draws than held-out ones? A user that a draw continues or cuts is never held against
that draw. Not here: removing near copies (`gate.filters`); a limit on the nearest real user would
be that rule again. Called by `report_card`.

Reference:
    Chen et al. (2020), "GAN-Leaks", section 4.1 (membership by the nearest draw).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recjax.expansion.fidelity import compute_auc
from recjax.expansion.gate.hashing import bucket_cells, hash_shingles
from recjax.expansion.records import (
    NO_USER,
    Record,
    RecordSource,
    batched,
    lengths_of,
    pad_field,
    pick_evenly,
    spread_evenly,
)

QUANTILES = (0.5, 0.9, 0.95, 0.99)
_MAX_JUDGED = 2048  # users whose nearest neighbour is looked for, of each kind
_MAX_COMPARED = 16_384  # users among whom it is looked for
_BUCKETS = 1 << 22
_CHUNK = 256


@dataclass(frozen=True)
class Privacy:
    """What the samples show.

    Attributes:
        real: float64 [R], similarity of real users to their nearest other real user.
        synthetic: float64 [S], similarity of draws to their nearest real user.
        members: float64 [M], similarity of users that the generator saw to their nearest draw.
        held_out: float64 [N], the same for users that it did not see; empty where there are none.
    """

    real: np.ndarray
    synthetic: np.ndarray
    members: np.ndarray
    held_out: np.ndarray

    @property
    def nearer_share(self) -> float:
        """Share of the draws that are nearer to a real user than 95 % of the real users are."""
        return float((self.synthetic > np.quantile(self.real, 0.95)).mean())

    @property
    def membership_auc(self) -> float | None:
        """Chance that a seen user is nearer to the draws than an unseen one; None: none unseen."""
        return compute_auc(self.members, self.held_out) if len(self.held_out) else None


def measure_privacy(
    real: RecordSource, synthetic: RecordSource, held_out: Sequence[int] | np.ndarray
) -> Privacy:
    """Returns the similarities of evenly spread samples of both logs.

    Args:
        real: training records of the real users, at least 2.
        synthetic: the kept draws, at least 1.
        held_out: places in `real` of the users that the generator was not fitted on.
    """
    seen = np.setdiff1d(np.arange(len(real)), held_out)
    users = _Users([real[int(i)] for i in spread_evenly(seen, _MAX_COMPARED)])
    draws = _Users(pick_evenly(synthetic, _MAX_COMPARED))
    unseen = _Users([real[int(i)] for i in spread_evenly(np.asarray(held_out), _MAX_JUDGED)])
    some_users = users.pick(_MAX_JUDGED)
    return Privacy(
        real=find_nearest(some_users, users),
        synthetic=find_nearest(draws.pick(_MAX_JUDGED), users),
        members=find_nearest(some_users, draws),
        held_out=find_nearest(unseen, draws),
    )


class _Users:
    """Users as sparse rows of their items and of their ordered pairs of consecutive items."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.owners = np.array([record["user"] for record in records], np.int64)
        parts = [_make_rows(batch) for batch in batched(records, 1024)]
        self.rows = sp.vstack([sp.csr_matrix((0, _BUCKETS), dtype=np.float32), *parts], "csr")
        self.sizes = self.rows.getnnz(axis=1).astype(np.float32)

    def pick(self, limit: int) -> "_Users":
        return _Users(pick_evenly(self.records, limit))


def _make_rows(records: Sequence[Record]) -> sp.csr_matrix:
    items, lengths = pad_field(records, "items"), lengths_of(records)
    cells = []
    for shingle_len in (1, 2):
        cells.append(bucket_cells(*hash_shingles(items, lengths, shingle_len), _BUCKETS))
    rows, columns = (np.concatenate(part) for part in zip(*cells, strict=True))
    ones = np.ones(len(rows), np.float32)
    matrix = sp.csr_matrix((ones, (rows, columns)), (len(records), _BUCKETS))
    matrix.data[:] = 1  # a set: what occurs twice counts once
    return matrix


def find_nearest(judged: _Users, among: _Users) -> np.ndarray:
    """Returns float64 [B], the largest Jaccard similarity of each user to any other one's.

    Args:
        judged: B users.
        among: the users that they are compared with; those of the same `user` are left out.
    """
    nearest = np.zeros(len(judged.records))
    turned = among.rows.T.tocsr()
    for first in range(0, len(nearest), _CHUNK):
        part = slice(first, first + _CHUNK)
        shared = (judged.rows[part] @ turned).toarray()
        similarity = shared / (judged.sizes[part, None] + among.sizes - shared).clip(1)
        owners = judged.owners[part, None]
        similarity[(owners == among.owners) & (owners != NO_USER)] = 0
        nearest[part] = similarity.max(axis=1, initial=0)
    return nearest
