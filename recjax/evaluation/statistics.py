"""Intervals and p-values over users and seeds, and the correction for many comparisons.

Lives here: the paired bootstrap of differences of user-level values, Holm's correction. Not here:
which arms are compared (`results`). Called by `results`. numpy only; every function is
deterministic by its seed.

The uncertainty of a mean over users and seeds has two sources. Users: a Poisson bootstrap of the
seed-averaged value of each user, the same draw for all arms (paired). Seeds: with S of 3 or 5,
drawing seeds again understates their noise, so a Student-t draw with S - 1 degrees of freedom is
added, scaled by the variance of the seed means less half of what user-by-seed noise explains. (Less
all of it, equal arms with real seed effects raise 10 % false alarms at S = 3; less none, every
interval is 1.8 times too wide when seeds hardly matter. Half keeps alarms between 2 and 6.5 % at 3
and 5 seeds; with two, intervals are rough.) With one seed only the users' part is known.
"""

import dataclasses

import numpy as np

MAX_UNITS = 20_000  # more users than this are put into so many random groups first
_CHUNK = 64  # bootstrap draws whose weights are held at a time


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    ci95: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Lift:
    """Treated minus control.

    Attributes:
        absolute: difference of the means.
        relative: difference over the control's mean; None if that is not above 0.
        ci95: interval of the absolute difference.
        relative_ci95: interval of the relative difference, or None.
        p_value: two-sided bootstrap p-value of "no difference".
        seeds: number of seeds S of the arm with more of them.
        n: number of users (targets).
    """

    absolute: float
    relative: float | None
    ci95: tuple[float, float]
    relative_ci95: tuple[float, float] | None
    p_value: float
    seeds: int
    n: int


def bootstrap_means(
    values: np.ndarray, num_samples: int, seed: int, units: np.ndarray | None = None
) -> np.ndarray:
    """Draws bootstrap means of columns over users, the same draw of users for all columns.

    Each unit gets a Poisson(1) weight in each sample (to 2^-16); a mean is the weighted ratio.

    Args:
        values: float [N, C].
        num_samples: number of draws (static).
        seed: of the draws.
        units: int [N], the user of each row; rows of one user are drawn together. None: one row
            per user.

    Returns:
        float64 [num_samples, C].
    """
    sums, sizes = _group(np.asarray(values, np.float64), units, seed)
    rng = np.random.default_rng([seed, 1])
    columns = np.column_stack([sums, sizes])
    draws = np.empty((num_samples, columns.shape[1]))
    for start in range(0, num_samples, _CHUNK):
        stop = min(start + _CHUNK, num_samples)
        draws[start:stop] = _poisson_weights(rng, (stop - start, len(columns))) @ columns
    return draws[:, :-1] / np.maximum(draws[:, -1:], 1.0)


def seed_draws(values: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """Draws the deviation of a mean that the choice of seeds adds to the users' noise.

    Args:
        values: float [S, N], one row per seed (of a metric, or of a difference).
        num_samples: number of draws.
        seed: of the draws.

    Returns:
        float64 [num_samples]; zeros for one seed.

    Reference:
        Two-way random effects; Owen (2007), "The pigeonhole bootstrap", on why drawing both ways
        alone counts the interaction more than once.
    """
    num_seeds, num_users = values.shape
    if num_seeds < 2 or num_users < 2:
        return np.zeros(num_samples)
    seed_means = values.mean(axis=1)
    of_means = seed_means.var(ddof=1) / num_seeds
    residuals = values - seed_means[:, None] - values.mean(axis=0) + values.mean()
    within = float((residuals**2).sum()) / ((num_seeds - 1) * (num_users - 1))
    excess = max(0.0, of_means - 0.5 * within / (num_users * num_seeds))
    # with one degree of freedom the draws have no variance, and intervals no use
    freedom = max(2, num_seeds - 1)
    draws = np.random.default_rng([seed, 2]).standard_t(freedom, num_samples)
    return np.sqrt(excess) * draws


def interval_from_draws(values: np.ndarray, draws: np.ndarray, seed: int) -> Interval:
    """Makes an interval of the mean of values [S, N] from its bootstrap means over users.

    Args:
        values: float [S, N], one row per seed.
        draws: float [num_samples], from `bootstrap_means` of the seed-averaged values.
        seed: of the draws over seeds.
    """
    return Interval(float(values.mean()), _interval(draws + seed_draws(values, len(draws), seed)))


def lift_from_draws(
    treated: np.ndarray,
    control: np.ndarray,
    treated_draws: np.ndarray,
    control_draws: np.ndarray,
    seed: int,
) -> Lift:
    """Compares two arms, given bootstrap means of each over the same draws of users.

    Args:
        treated: float [S, N], values of each user, seed by seed.
        control: float [S, N], or one of the two with S = 1.
        treated_draws: float [num_samples], of the seed-averaged values.
        control_draws: float [num_samples], from the same call of `bootstrap_means`.
        seed: of the draws over seeds.

    Returns:
        Lift.

    Raises:
        ValueError: if the shapes do not pair up.
    """
    seeds = {len(treated), len(control)}
    if treated.shape[1] != control.shape[1] or len(seeds - {1}) > 1:
        raise ValueError(f"arms do not pair up: {treated.shape} against {control.shape}")
    difference, level = treated - control, float(control.mean())
    draws = treated_draws - control_draws + seed_draws(difference, len(treated_draws), seed)
    relative, relative_ci95 = None, None
    if level > 0:
        relative = float(difference.mean()) / level
        relative_ci95 = _interval(draws / np.maximum(control_draws, 1e-3 * level))
    return Lift(
        absolute=float(difference.mean()),
        relative=relative,
        ci95=_interval(draws),
        relative_ci95=relative_ci95,
        p_value=two_sided_p_value(draws),
        seeds=max(seeds),
        n=treated.shape[1],
    )


def bootstrap_interval(
    values: np.ndarray, num_samples: int, seed: int, units: np.ndarray | None = None
) -> Interval:
    """Returns the mean of user-level values and its 95 % interval over users and seeds.

    Args:
        values: float [S, N].
        num_samples: bootstrap draws.
        seed: of the draws.
        units: int [N] users, or None; see `bootstrap_means`.

    Raises:
        ValueError: if there is no user.
    """
    values = _checked(values)
    draws = bootstrap_means(values.mean(axis=0)[:, None], num_samples, seed, units)
    return interval_from_draws(values, draws[:, 0], seed)


def bootstrap_lift(
    treated: np.ndarray,
    control: np.ndarray,
    num_samples: int,
    seed: int,
    units: np.ndarray | None = None,
) -> Lift:
    """Compares two arms on the same users: difference, interval, p-value.

    Seed s of one arm stands against seed s of the other; an arm with one seed (a floor) stands
    against each.

    Args:
        treated: float [S, N], values of each user, seed by seed.
        control: float [S, N], or one of the two with S = 1.
        num_samples: bootstrap draws; the least p-value is about 2 / num_samples.
        seed: of the draws.
        units: int [N] users, or None; see `bootstrap_means`.

    Returns:
        Lift.

    Raises:
        ValueError: if there is no user, or the shapes do not pair up.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> control = rng.random((3, 400))
        >>> lift = bootstrap_lift(control + 0.1, control, num_samples=200, seed=0)
        >>> round(lift.absolute, 3), lift.p_value < 0.05
        (0.1, True)
    """
    treated, control = _checked(treated), _checked(control)
    if treated.shape[1] != control.shape[1]:
        raise ValueError(f"arms do not pair up: {treated.shape} against {control.shape}")
    columns = np.column_stack([treated.mean(axis=0), control.mean(axis=0)])
    draws = bootstrap_means(columns, num_samples, seed, units)
    return lift_from_draws(treated, control, draws[:, 0], draws[:, 1], seed)


def two_sided_p_value(draws: np.ndarray) -> float:
    """Returns twice the smaller share of bootstrap differences on either side of 0.

    Args:
        draws: [num_samples] bootstrap differences.

    Returns:
        A probability, never 0: one more draw on the other side is always granted.
    """
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2.0 * (beyond + 1) / (len(draws) + 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values of a family of comparisons, so that one false alarm in 20 families stays.

    Args:
        p_values: [N].

    Returns:
        float64 [N], adjusted, in the order given.

    Reference:
        Holm (1979), "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(3)
        array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.atleast_2d(np.asarray(values, np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"values must be [seeds, users] with at least one user, not {values.shape}"
        )
    return values


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _group(
    values: np.ndarray, units: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums rows by unit, and units into at most MAX_UNITS random groups; returns sums and sizes."""
    if units is None and len(values) <= MAX_UNITS:
        return values, np.ones(len(values))
    group = np.arange(len(values)) if units is None else np.unique(units, return_inverse=True)[1]
    num_groups = int(group.max()) + 1
    if num_groups > MAX_UNITS:
        place = np.random.default_rng([seed, 3]).permutation(num_groups) % MAX_UNITS
        group, num_groups = place[group], MAX_UNITS
    sums = [np.bincount(group, column, num_groups) for column in values.T]
    return np.column_stack(sums), np.bincount(group, minlength=num_groups).astype(np.float64)


def _poisson_weights(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws Poisson(1) weights, float64, by a table of 2^16 places (five times faster)."""
    factorials = np.cumprod(np.concatenate([[1.0], np.arange(1.0, 9.0)]))
    ends = np.round(np.cumsum(np.exp(-1.0) / factorials) * 2**16)
    table = np.searchsorted(ends, np.arange(2**16), side="right").astype(np.float64)
    return table[rng.integers(0, 2**16, shape, dtype=np.uint16)]
