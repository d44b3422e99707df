"""Which draws of a batch may pass, each filter in turn, and the reason for those that may not.

Not here: how many to draw (`run`) and the quotas (`quotas`).

A draw that continues or cuts a real user is not held against that very user by the near-copy rule:
it shares that history by design. Against everybody else, and against other draws, it is judged
whole, and an exact copy of any real user, its own one included, is always dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recjax.expansion.gate import settings
from recjax.expansion.gate.bands import ScoreBand
from recjax.expansion.gate.duplicates import NONE
from recjax.expansion.gate.hashing import hash_sequences
from recjax.expansion.gate.reference import RealReference, UserIndex, compute_signatures
from recjax.expansion.gate.settings import GateConfig
from recjax.expansion.gate.tokens import make_tokens
from recjax.expansion.records import SEQUENCE_FIELDS, Record, lengths_of


def find_invalid(records: Sequence[Record], reference: RealReference) -> np.ndarray:
    """Returns bool [B]: records that would break or leak, whatever their quality.

    That is: fields of unequal length, a mark of a real user (source 0), an item id that is special,
    unknown or unseen in training, an action unseen in training, times that run backwards, a weight
    that is not a positive number.
    """
    invalid = np.array([not _is_well_formed(record) for record in records], bool)
    fine = np.nonzero(~invalid)[0]
    if not len(fine):
        return invalid
    items, actions, times = (
        np.concatenate([records[int(row)][name] for row in fine])
        for name in ("items", "actions", "times")
    )
    rows = np.repeat(fine, [len(records[int(row)]["items"]) for row in fine])
    wrong = ~_is_flagged(items, reference.allowed_items)
    wrong |= ~_is_flagged(actions, reference.action_counts > 0)
    wrong[1:] |= (np.diff(times) < 0) & (rows[1:] == rows[:-1])
    invalid[rows[wrong]] = True
    return invalid


def _is_well_formed(record: Record) -> bool:
    lengths = {len(record[name]) for name in SEQUENCE_FIELDS}
    weight = float(record["weight"])
    return len(lengths) == 1 and record["source"] >= 1 and 0 < weight < float("inf")


def _is_flagged(ids: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Returns bool [n]: ids inside the table whose flag is set."""
    inside = (ids >= 0) & (ids < len(flags))
    return inside & flags[np.where(inside, ids, 0)]


@dataclass(frozen=True)
class Verdicts:
    """What the filters say of a batch of draws.

    Attributes:
        reasons: object [B], why each was removed, "" for those that pass.
        entries: int64 [B], its number among the draws that near copies are told from; NONE: none.
        originals: int64 [B], number of the earlier draw that it nearly copies; NONE: of none.
    """

    reasons: np.ndarray
    entries: np.ndarray
    originals: np.ndarray

    @classmethod
    def empty(cls, size: int) -> "Verdicts":
        """Returns verdicts by which all pass."""
        return cls(np.full(size, "", object), np.full(size, NONE), np.full(size, NONE))


def judge(
    records: Sequence[Record],
    config: GateConfig,
    reference: RealReference,
    drawn: UserIndex,
    bands: Sequence[ScoreBand],
) -> Verdicts:
    """Returns which records pass, and why the others do not.

    The records that pass the cheap filters are added to `drawn`, so that later copies are seen.

    Args:
        records: B draws.
        config: settings.
        reference: the real users.
        drawn: the draws so far, known by what the real users of the reference are; changed.
        bands: what scores must lie in, judged in this order.
    """
    verdicts = Verdicts.empty(len(records))
    reasons = verdicts.reasons
    reasons[find_invalid(records, reference)] = settings.INVALID
    _remove(reasons, lengths_of(records) < config.min_len, settings.TOO_SHORT)
    _judge_copies(records, verdicts, config, reference, drawn)
    for band in bands:
        below, above = band.judge(records)
        _remove(reasons, below, band.too_low)
        _remove(reasons, above, band.too_high)
    return verdicts


def _remove(reasons: np.ndarray, condemned: np.ndarray, reason: str) -> None:
    reasons[condemned & (reasons == "")] = reason


def _judge_copies(
    records: Sequence[Record],
    verdicts: Verdicts,
    config: GateConfig,
    reference: RealReference,
    drawn: UserIndex,
) -> None:
    """Writes the reasons of exact and near copies, and remembers the others."""
    tokens, lengths = make_tokens(records, drawn.by), lengths_of(records)
    if config.drop_exact_duplicates:
        hashes = hash_sequences(tokens, lengths)
        _remove(verdicts.reasons, reference.users.exact.contains(hashes), settings.COPY_OF_REAL)
        if not config.merge_similar:  # else they are merged as the near copies that they also are
            _judge_repeats(hashes, verdicts.reasons, drawn)
    if drawn.near is not None and reference.users.near is not None:
        _judge_near_copies(records, tokens, lengths, verdicts, config, reference, drawn)


def _judge_repeats(hashes: np.ndarray, reasons: np.ndarray, drawn: UserIndex) -> None:
    fresh = np.nonzero(reasons == "")[0]
    repeated = np.ones(len(hashes), bool)
    repeated[fresh[np.unique(hashes[fresh], return_index=True)[1]]] = False
    _remove(reasons, repeated | drawn.exact.contains(hashes), settings.COPY_OF_DRAW)
    drawn.exact.add(hashes[reasons == ""])


def _judge_near_copies(
    records: Sequence[Record],
    tokens: np.ndarray,
    lengths: np.ndarray,
    verdicts: Verdicts,
    config: GateConfig,
    reference: RealReference,
    drawn: UserIndex,
) -> None:
    """Writes the reasons of near copies, and the entries that they have and copy."""
    fresh = np.nonzero(verdicts.reasons == "")[0]
    minhashes = compute_signatures(tokens[fresh], lengths[fresh], config)
    owners = np.array([records[int(row)]["user"] for row in fresh], np.int32)
    assert drawn.near is not None and reference.users.near is not None
    near_real = np.zeros(len(records), bool)
    near_real[fresh] = reference.users.near.find_originals(minhashes, not_of=owners) != NONE
    _remove(verdicts.reasons, near_real, settings.NEAR_REAL)
    verdicts.entries[fresh] = drawn.near.size + np.arange(len(fresh))
    drawn.near.add(minhashes, owners)
    before = verdicts.entries[fresh]
    verdicts.originals[fresh] = drawn.near.find_originals(minhashes, before=before)
    _remove(verdicts.reasons, verdicts.originals != NONE, settings.NEAR_DRAW)
