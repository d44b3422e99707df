"""Tells real users from synthetic ones: a logistic regression on hashed features of sequences.

What it can tell, a model that trains on the draws can learn as well. Trained on bounded samples;
every user that is scored is unseen by the model that scores it. Not here: what follows from it, a
check (`checks`) and a filter of the gate (`arms`).

Reference:
    Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import expit

from recjax.expansion.gate.hashing import bucket_cells, mix
from recjax.expansion.records import NO_USER, Record, batched, lengths_of, pad_field

MAX_USERS = 8192  # of each side, in a sample that a discriminator is fitted on
_BUCKETS = 1 << 16
_PENALTY = 1e-3  # of half the squared weights, beside the mean log loss
_MAX_ITERATIONS = 60  # of L-BFGS


@dataclass(frozen=True)
class Discriminator:
    """A fitted classifier.

    Attributes:
        weights: float64 [F + 1], of the hashed features and of a constant.
        category_of_item: int [V], 0 = none.
    """

    weights: np.ndarray
    category_of_item: np.ndarray

    def score(self, records: Sequence[Record]) -> np.ndarray:
        """Returns float64 [B], the log-odds that each user is a real one."""
        return make_features(records, self.category_of_item) @ self.weights


def fit_discriminator(
    real: Sequence[Record], synthetic: Sequence[Record], category_of_item: np.ndarray
) -> Discriminator:
    """Returns the discriminator of two samples, the same for the same samples.

    Args:
        real: real users, at least 1.
        synthetic: draws, at least 1.
        category_of_item: int [V], 0 = none.
    """
    features = make_features([*real, *synthetic], category_of_item)
    is_real = np.arange(len(real) + len(synthetic)) < len(real)
    return Discriminator(_fit_logistic(features, is_real), category_of_item)


@dataclass(frozen=True)
class ToldApart:
    """Log-odds of being real, each user's from a model that has not seen it.

    Attributes:
        real: float64 [R], of the real users.
        synthetic: float64 [S], of the draws; both leave out users that no model could judge.
    """

    real: np.ndarray
    synthetic: np.ndarray


def tell_apart(
    real: Sequence[Record], synthetic: Sequence[Record], category_of_item: np.ndarray
) -> ToldApart:
    """Returns the log-odds of two samples, each user's from the model of the other half.

    A draw that continues a real user is in that user's half, so that no model has seen either.

    Args:
        real: R real users.
        synthetic: S draws.
        category_of_item: int [V], 0 = none.
    """
    real_halves, drawn_halves = _halve(real), _halve(synthetic)
    told_real, told_drawn = [np.zeros(0)], [np.zeros(0)]
    for seen, judged in ((0, 1), (1, 0)):
        if real_halves[seen] and drawn_halves[seen]:
            model = fit_discriminator(real_halves[seen], drawn_halves[seen], category_of_item)
            told_real.append(model.score(real_halves[judged]))
            told_drawn.append(model.score(drawn_halves[judged]))
    return ToldApart(np.concatenate(told_real), np.concatenate(told_drawn))


def _halve(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Returns two halves at random, told by the user; users without a name go by their place."""
    owners = np.array([record["user"] for record in records], np.int64)
    names = np.where(owners == NO_USER, np.arange(len(owners)), owners)
    second = (mix(names) & np.uint64(1)) == 1
    first_half = [record for record, late in zip(records, second, strict=True) if not late]
    return first_half, [record for record, late in zip(records, second, strict=True) if late]


def make_features(records: Sequence[Record], category_of_item: np.ndarray) -> sp.csr_matrix:
    """Returns float64 [B, F + 1], hashed counts of each user and a constant 1.

    Eight families: items, categories and actions, and ordered pairs of consecutive ones; the log2
    of gaps in seconds; the length. Each family of a user has Euclidean length 1.

    Args:
        records: B users.
        category_of_item: int [V], 0 = none.
    """
    parts = [_hash_families(batch, category_of_item) for batch in batched(records, 1024)]
    hashed = sp.vstack([sp.csr_matrix((0, _BUCKETS)), *parts], "csr")
    return sp.hstack([hashed, np.ones((hashed.shape[0], 1))], "csr")


def _hash_families(records: Sequence[Record], category_of_item: np.ndarray) -> sp.csr_matrix:
    items, lengths = pad_field(records, "items"), lengths_of(records)
    actions, times = (pad_field(records, name, items.shape[1]) for name in ("actions", "times"))
    known = (items >= 0) & (items < len(category_of_item))
    categories = np.where(known, category_of_item[np.where(known, items, 0)], 0)
    mask = np.arange(items.shape[1]) < lengths[:, None]
    total = sp.csr_matrix((len(records), _BUCKETS))
    for number, tokens in enumerate((items, categories, actions)):
        pairs = mix(tokens[:, :-1]) + tokens[:, 1:].astype(np.uint64)
        total += _count_family(2 * number, tokens, mask)
        total += _count_family(2 * number + 1, pairs, mask[:, 1:])
    bins = np.log2(1 + np.maximum(np.diff(times, axis=1), 0)).astype(np.int64)
    total += _count_family(6, bins, mask[:, 1:])
    return total + _count_family(7, lengths[:, None], np.ones((len(records), 1), bool))


def _count_family(family: int, tokens: np.ndarray, mask: np.ndarray) -> sp.csr_matrix:
    """Returns float64 [B, F], the tokens [B, T] under the mask counted, rows of length 1 or 0."""
    hashes = mix(mix(tokens) + np.uint64(family))
    cells = bucket_cells(hashes, mask, _BUCKETS)
    counts = sp.csr_matrix((np.ones(len(cells[0])), cells), (len(tokens), _BUCKETS))
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    return sp.diags(1 / np.maximum(norms, 1.0)) @ counts


def _fit_logistic(features: sp.csr_matrix, is_real: np.ndarray) -> np.ndarray:
    """Returns float64 [F + 1], the least penalised mean log loss; either side weighs one half."""
    signs = np.where(is_real, 1.0, -1.0)
    shares = np.where(is_real, 0.5 / is_real.sum(), 0.5 / (~is_real).sum())
    turned = features.T.tocsr()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (features @ weights)
        value = shares @ np.logaddexp(0, -margins) + _PENALTY / 2 * weights @ weights
        return value, _PENALTY * weights - turned @ (shares * signs * expit(-margins))

    start = np.zeros(features.shape[1])
    options = {"maxiter": _MAX_ITERATIONS}
    return minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
