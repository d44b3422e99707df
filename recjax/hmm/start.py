"""A start for EM from k-means over users: each cluster of alike users becomes a state.

On the host, in numpy. A user is the square roots of the shares of his items and actions, so that
Euclidean distance between users is Hellinger's between their histograms; a long catalogue is hashed
to few columns. The clusters are found on a sample of users, then all users are counted into them.
A start from observed states needs nothing of this: the result of `fit_counts` is one,
`fit_baum_welch(..., initial=fit_counts(..., states_of=lambda events: events.actions))`.

Reference:
    Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding"; Lloyd (1982),
    "Least squares quantization in PCM"; Weinberger et al. (2009), "Feature hashing for large scale
    multitask learning"; Vitter (1985), "Random sampling with a reservoir", Algorithm R.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from recjax.hmm.events import Events
from recjax.hmm.kernel import Kernel
from recjax.hmm.learning import fit_counts
from recjax.hmm.parameters import HmmParams, HmmSettings, HmmSizes, host_rng, without_stays
from recjax.hmm.passes import Batches
from recjax.hmm.validation import validate_events

_COLUMNS = 256  # of the hashed items: distances keep to about 1 / sqrt(columns)
_MAX_ROUNDS = 50  # of Lloyd's; it settles long before
_BACKGROUND = 0.2  # pseudo-events per event of a state: EM leaves no probability of exactly 0


def kmeans_params(
    key: jax.Array,
    batches: Batches,
    sizes: HmmSizes,
    settings: HmmSettings,
    *,
    kernel: Kernel | None = None,
    item_category: np.ndarray | None = None,
    item_features: np.ndarray | None = None,
    sample_users: int = 20_000,
    stay: float = 0.7,
) -> HmmParams:
    """Returns a start for EM whose states are clusters of users.

    Memory: the tables and sample_users x (256 columns or V, whichever is less, + A) numbers.

    Args:
        key: PRNG key of the hashing, the sample and the seeding.
        batches: called once to sample users, and twice by `fit_counts`; yields users on the host.
        sizes: V, A, G and S.
        settings: reads num_states and smoothing.
        kernel: becomes part of the start with weight 1/2 in every state, or None.
        item_category: int [V]; given, items are emitted by way of their category.
        item_features: float [V, F]; given, items are emitted by what is known of them.
        sample_users: users to cluster, at least num_states.
        stay: in [0, 1), probability of staying in the state, of a user who goes on; the rest leads
            anywhere, by the size of the cluster.

    Raises:
        ValueError: if an argument or an id is wrong, or there are fewer users than states.

    Example:
        >>> start = kmeans_params(key, batches, sizes, settings)  # doctest: +SKIP
        >>> fit_baum_welch(key, batches, sizes, settings, initial=start)  # doctest: +SKIP
    """
    num_states = settings.num_states
    if sample_users < num_states:
        raise ValueError(f"sample_users = {sample_users}: expected at least {num_states} states")
    if not 0 <= stay < 1:
        raise ValueError(f"stay = {stay}: expected 0 <= stay < 1")
    rng = host_rng(key)
    histograms = _Histograms(rng, sizes)
    sample, num_events = _sample(rng, batches, sizes, histograms, sample_users)
    if len(sample) < num_states:
        raise ValueError(f"{len(sample)} users with events: expected at least {num_states} states")
    centres = _lloyd(sample, _seeds(rng, sample, num_states))
    background = _BACKGROUND * num_events / (num_states * sizes.num_items)
    params = fit_counts(
        batches,
        sizes,
        dataclasses.replace(
            settings, smoothing=max(settings.smoothing, background), max_duration=1
        ),
        states_of=lambda events: np.broadcast_to(
            _nearest(histograms.of(events), centres)[:, None], np.shape(events.items)
        ),
        item_category=item_category,
        item_features=item_features,
    )
    anywhere = np.asarray(params.start).mean(0)  # over segments
    transition = stay * np.eye(num_states) + (1 - stay) * anywhere[None, :]
    mix = np.full(num_states, 0.0 if kernel is None else 0.5, np.float32)
    transition = transition.astype(np.float32)
    params = dataclasses.replace(params, transition=transition, mix=mix, kernel=kernel)
    if settings.max_duration == 1:
        return params
    duration = np.power(max(stay, 1e-3), np.arange(settings.max_duration))
    duration = np.tile(duration / duration.sum(), (num_states, 1)).astype(np.float32)
    return dataclasses.replace(params, transition=without_stays(transition), duration=duration)


class _Histograms:
    """Users as points float32 [B, D]: square roots of shares of items, hashed, and of actions."""

    def __init__(self, rng: np.random.Generator, sizes: HmmSizes):
        self._sizes, num_items = sizes, sizes.num_items
        hashed = num_items > _COLUMNS
        self._columns = min(num_items, _COLUMNS)
        self._column_of = rng.integers(0, _COLUMNS, num_items) if hashed else np.arange(num_items)
        # Random signs: items that share a column cancel out on average.
        self._sign = rng.choice([-1.0, 1.0], num_items) if hashed else np.ones(num_items)

    def of(self, events: Events) -> np.ndarray:
        """Returns the points [B, D] of users [B, T]; 0 for one without events."""
        items, lengths = np.asarray(events.items), np.asarray(events.lengths)
        kept = np.arange(items.shape[1])[None, :] < lengths[:, None]
        users, num_users = np.nonzero(kept)[0], len(lengths)
        user, item, root = _roots(users, items[kept], self._sizes.num_items, lengths)
        points = np.bincount(
            user * self._columns + self._column_of[item],
            self._sign[item] * root,
            minlength=num_users * self._columns,
        ).reshape(num_users, self._columns)
        if self._sizes.num_actions > 1:
            size = self._sizes.num_actions
            user, action, root = _roots(users, np.asarray(events.actions)[kept], size, lengths)
            table = np.bincount(user * size + action, root, minlength=num_users * size)
            points = np.concatenate([points, table.reshape(num_users, size)], axis=1)
        return points.astype(np.float32)


def _roots(
    users: np.ndarray, values: np.ndarray, size: int, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs (user, value), and the square root of the value's share in the user."""
    keys, counts = np.unique(users * np.int64(size) + values, return_counts=True)
    user = keys // size
    return user, keys % size, np.sqrt(counts / lengths[user])


def _sample(
    rng: np.random.Generator,
    batches: Batches,
    sizes: HmmSizes,
    histograms: _Histograms,
    sample_users: int,
) -> tuple[np.ndarray, int]:
    """Points of users drawn evenly from the stream, and the number of all events."""
    sample: list[np.ndarray] = []
    num_users, num_events = 0, 0
    for events in batches():
        validate_events(events, sizes)
        lengths = np.asarray(events.lengths)
        rows = np.flatnonzero(lengths > 0)
        num_events += int(lengths.sum())
        places = np.arange(num_users, num_users + rows.size)
        num_users += rows.size
        taken = np.where(places < sample_users, places, rng.integers(0, places + 1))
        chosen = taken < sample_users
        rows, taken = rows[chosen], taken[chosen]
        points = histograms.of(jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], events))
        for place, point in zip(taken.tolist(), points, strict=True):
            if place == len(sample):
                sample.append(point)
            else:
                sample[place] = point
    return np.stack(sample) if sample else np.zeros((0, 1), np.float32), num_events


def _seeds(rng: np.random.Generator, points: np.ndarray, num_clusters: int) -> np.ndarray:
    """First centres [K, D], each drawn with odds of its squared distance to those before."""
    centres = [points[rng.integers(len(points))]]
    distance = np.full(len(points), np.inf)
    while len(centres) < num_clusters:
        distance = np.minimum(distance, np.square(points - centres[-1]).sum(1))
        total = distance.sum(dtype=np.float64)
        even = np.full(len(points), 1 / len(points))  # fewer distinct users than states
        odds = distance / total if total > 0 else even
        centres.append(points[rng.choice(len(points), p=odds / odds.sum(dtype=np.float64))])
    return np.stack(centres)


def _lloyd(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Centres [K, D] at which no point [n, D] changes its cluster, or after the last round."""
    before = np.full(len(points), -1)
    for _ in range(_MAX_ROUNDS):
        nearest = _nearest(points, centres)
        if (nearest == before).all():
            break
        before = nearest
        sizes = np.bincount(nearest, minlength=len(centres))
        order = np.argsort(nearest, kind="stable")
        filled = np.flatnonzero(sizes)
        firsts = (np.cumsum(sizes) - sizes)[filled]
        sums = np.add.reduceat(points[order], firsts)
        centres = centres.copy()
        centres[filled] = sums / sizes[filled, None]
    return centres


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index int [n] of the centre [K, D] nearest to each point [n, D]."""
    return (np.square(centres).sum(1)[None, :] - 2 * points @ centres.T).argmin(1)
