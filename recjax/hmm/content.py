"""Item distributions from what is known of the items, so that one without history is drawn too.

p(item v | state k) is proportional to exp(features[v] . weights[:, k] + offset[v]): text, brand,
category or price say which items a state likes, the offset how popular each is. The normalised
table is kept, so that rows, draws and counts are those of `PlainItems`; only the M-step is new.

Reference:
    Berg-Kirkpatrick et al. (2010), "Painless Unsupervised Learning with Features", Sec. 3: EM whose
    M-step fits a log-linear model to expected counts; Dempster, Laird, Rubin (1977), Sec. 2, on
    generalised EM: an M-step that only climbs keeps EM monotone.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from recjax.hmm.emissions import PlainItems
from recjax.hmm.events import Array

NEWTON_STEPS = 3  # of one M-step; EM asks again in its next iteration
_HALVINGS = 12  # tries of one Newton step, each half as long as the one before
_JITTER = 1e-5  # of the mean curvature: features that say the same leave no curvature between them


_Search = tuple[jax.Array, jax.Array, jax.Array]  # tries [], step lengths [K], whether good [K]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContentItems(PlainItems):
    """Item probabilities of every state as a softmax over item features.

    Attributes:
        table: float32 [V, K], the distributions that features, weights and offset give.
        features: float32 [V, F], best with mean 0 and variance 1 per column.
        weights: float32 [F, K], what the states like.
        offset: float32 [V], see `popularity_offset`.
    """

    features: Array
    weights: Array
    offset: Array

    @classmethod
    def of(cls, features: Array, weights: Array, offset: Array) -> ContentItems:
        """Returns the distribution of these features [V, F], weights [F, K] and offset [V].

        Differentiable in all three.
        """
        features, weights = jnp.asarray(features), jnp.asarray(weights)
        logits = _matmul(features, weights) + jnp.asarray(offset)[:, None]
        return cls(jax.nn.softmax(logits, axis=0), features, weights, jnp.asarray(offset))

    def prior(self, smoothing: float, popularity: np.ndarray) -> dict[str, np.ndarray]:
        """Returns {"ridge": []}, the precision of a normal prior on each weight.

        It is smoothing x V: for features of variance 1, to second order, the pull of as many
        events spread by popularity as `PlainItems` adds.
        """
        return {"ridge": np.asarray(smoothing * popularity.size, np.float32)}

    def log_prior(self, prior: dict[str, Array], alive: Array) -> jax.Array:
        """Returns the log density [] of the prior up to a constant, over states alive [K]."""
        squares = jnp.square(jnp.asarray(self.weights)).sum(0)
        return -0.5 * prior["ridge"] * (alive * squares).sum()

    def estimate(self, counts: dict[str, jax.Array], prior: dict[str, Array]) -> ContentItems:
        """Returns a distribution under which the counts [V, K] and the prior are likelier.

        A few Newton steps (`NEWTON_STEPS`); a step that would lower the penalised expected
        log-likelihood of its state is halved until it does not, or left out. Memory is linear in
        states x items and in states x F x F.
        """

        def climb(_: int, items: ContentItems) -> ContentItems:
            return _climb(items, counts["table"], prior["ridge"])

        items = jax.tree.map(jnp.asarray, self)
        return jax.lax.fori_loop(0, NEWTON_STEPS, climb, items)

    def reseeded(self, rng: np.random.Generator, empty: np.ndarray, source: int) -> ContentItems:
        """Returns items whose states `empty` [n] like what `source` likes, and something else."""
        weights, features = np.array(self.weights), np.asarray(self.features)
        spread = random_weights(rng, features, empty.size)
        weights[:, empty] = weights[:, source, None] + 0.5 * spread
        return ContentItems.of(features, weights, self.offset)


def popularity_offset(
    popularity: np.ndarray, *, damping: float = 1.0, smoothing: float = 1.0
) -> np.ndarray:
    """Returns float32 [V], damping x log(events of the item + smoothing).

    Args:
        popularity: events per item [V].
        damping: below 1, items with few or no events are drawn more often.
        smoothing: events that an item without any counts as.

    >>> popularity_offset(np.array([0, 1]), damping=2.0).round(3).tolist()
    [0.0, 1.3860000371932983]
    """
    return (damping * np.log(np.asarray(popularity, np.float64) + smoothing)).astype(np.float32)


def random_weights(rng: np.random.Generator, features: np.ndarray, num_states: int) -> np.ndarray:
    """Returns float32 [F, num_states] whose logits vary over items by about 1."""
    spread = np.sqrt(np.square(features - features.mean(0)).sum(1).mean())
    weights = rng.standard_normal((features.shape[1], num_states)) / max(spread, 1e-6)
    return weights.astype(np.float32)


def _climb(items: ContentItems, counts: jax.Array, ridge: Array) -> ContentItems:
    """One Newton step per state, halved until it climbs."""
    features, weights, table = items.features, items.weights, items.table
    totals = counts.sum(0)
    gradient = _matmul(features.T, counts - totals[None, :] * table) - ridge * weights
    step = _newton_direction(features, table, totals, ridge, gradient)
    rise = _matmul(features, step)
    rise -= (table * rise).sum(0, keepdims=True)  # centred: small numbers keep their digits
    drive = (counts * rise).sum(0)
    pull = ridge * jnp.stack([(weights * step).sum(0), 0.5 * jnp.square(step).sum(0)])

    def gain(length: jax.Array) -> jax.Array:
        change = jnp.log((table * jnp.exp(length[None, :] * rise)).sum(0))
        return length * drive - totals * change - length * pull[0] - length**2 * pull[1]

    def shorten(carry: _Search) -> _Search:
        tries, length, good = carry
        length = jnp.where(good, length, 0.5 * length)
        return tries + 1, length, gain(length) >= 0

    whole = jnp.ones_like(totals)
    _, length, good = jax.lax.while_loop(
        lambda carry: (carry[0] < _HALVINGS) & ~carry[2].all(),
        shorten,
        (jnp.asarray(0, jnp.int32), whole, gain(whole) >= 0),
    )
    weights += jnp.where(
        good[None, :], length[None, :] * step, 0.0
    )  # a wild step may not be finite
    return ContentItems.of(features, weights, items.offset)


def _newton_direction(
    features: jax.Array, table: jax.Array, totals: jax.Array, ridge: Array, gradient: jax.Array
) -> jax.Array:
    """Steps [F, K]: gradient over the curvature total x covariance(features under p) + ridge."""
    identity = jnp.eye(features.shape[1])
    means = _matmul(features.T, table)

    def solve(state: tuple[jax.Array, ...]) -> jax.Array:
        probability, mean, total, slope = state
        second = _matmul(features.T * probability[None, :], features)
        curvature = total * (second - mean[:, None] * mean[None, :]) + ridge * identity
        size = jnp.trace(curvature) / curvature.shape[0]
        size = jnp.where(size > 0, size, 1.0)
        return jnp.linalg.solve(curvature + _JITTER * size * identity, slope)

    return jax.lax.map(solve, (table.T, means.T, totals, gradient.T)).T


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
