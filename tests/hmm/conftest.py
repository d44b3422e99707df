"""Small models and slow, obvious references that the tests of this room share."""

import itertools

import jax
import numpy as np
import pytest

from recjax import hmm

NUM_STATES, NUM_ITEMS, NUM_ACTIONS, NUM_GAPS = 3, 6, 2, 4


def _settings(**changes):
    values = dict(
        num_states=NUM_STATES,
        num_iterations=10,
        tolerance=0.0,
        kernel_window=2,
        kernel_neighbours=4,
        kernel_backward=0.5,
        kernel_damping=0.5,
        smoothing=0.1,
    )
    return hmm.HmmSettings(**{**values, **changes})


def _random_events(rng, lengths, max_len, num_items=NUM_ITEMS):
    shape = (len(lengths), max_len)
    return hmm.Events(
        items=rng.integers(0, num_items, shape).astype(np.int32),
        actions=rng.integers(0, NUM_ACTIONS, shape).astype(np.int32),
        gaps=rng.integers(1, NUM_GAPS, shape).astype(np.int32),
        lengths=np.asarray(lengths, np.int32),
    )


def _random_params(rng, kind, kernel=None, num_states=NUM_STATES, num_segments=1):
    def rows(*shape):
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)

    if kind == "category":
        category_of = np.array([0, 1, 0, 2, 1, 0], np.int32)
        within = rng.random(NUM_ITEMS) + 0.1
        within /= np.bincount(category_of, within)[category_of]
        items = hmm.CategoryItems(rows(num_states, 3), within.astype(np.float32), category_of)
    else:
        items = hmm.PlainItems(np.ascontiguousarray(rows(num_states, NUM_ITEMS).T))
    has_kernel = kernel is not None
    return hmm.HmmParams(
        start=rows(num_segments, num_states),
        transition=rows(num_states, num_states),
        stop=rng.uniform(0.1, 0.6, num_states).astype(np.float32),
        action=rows(num_states, NUM_ACTIONS),
        gap=rows(num_states, NUM_GAPS),
        mix=(rng.uniform(0.2, 0.8, num_states) if has_kernel else np.zeros(num_states)).astype(
            np.float32
        ),
        items=items,
        kernel=kernel,
    )


def _separated_params():
    """Three well separated states over 6 items."""
    return hmm.HmmParams(
        start=np.array([[0.7, 0.2, 0.1]], np.float32),
        transition=np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.3, 0.1, 0.6]], np.float32),
        stop=np.array([0.05, 0.1, 0.3], np.float32),
        action=np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], np.float32),
        gap=np.array([[0, 0.8, 0.1, 0.1], [0, 0.1, 0.8, 0.1], [0, 0.1, 0.1, 0.8]], np.float32),
        mix=np.zeros(3, np.float32),
        items=hmm.PlainItems(
            np.array(
                [[0.5, 0.0, 0.1], [0.4, 0.1, 0.0], [0.1, 0.4, 0.0]]
                + [[0.0, 0.4, 0.1], [0.0, 0.1, 0.4], [0.0, 0.0, 0.4]],
                np.float32,
            )
        ),
    )


def _own_table(params):
    """Own item distributions [K, V]."""
    if isinstance(params.items, hmm.PlainItems):
        return np.asarray(params.items.table, np.float64).T
    category_of = params.items.category_of
    return np.asarray(params.items.category)[:, category_of] * params.items.item_in_category


def _kernel_row(kernel, item):
    """Dense probabilities [V] of one kernel row, from its stored counts; None if it is empty."""
    row = np.zeros(len(kernel.scale))
    for neighbour, count in zip(kernel.neighbours[item], kernel.counts[item], strict=True):
        if neighbour < len(row):
            row[neighbour] = count * kernel.scale[neighbour]
    return row / row.sum() if row.sum() > 0 else None


def _kernel_given(kernel, previous):
    """Dense p(item | previous items, oldest first) [V], or None where no row is usable."""
    total, weight = 0.0, 0.0
    for lag in range(1, len(kernel.lags) + 1):
        if lag <= len(previous):
            row = _kernel_row(kernel, previous[-lag])
            if row is not None:
                share = kernel.lags[lag - 1]
                total, weight = total + share * row, weight + share
    return total / weight if weight else None


def _lags_given(kernel, previous, item):
    """Which lag a kernel item followed [W], and 1 / (weight of usable lags) where usable [W]."""
    joint, usable = np.zeros(len(kernel.lags)), np.zeros(len(kernel.lags))
    for lag in range(1, min(len(kernel.lags), len(previous)) + 1):
        row = _kernel_row(kernel, previous[-lag])
        if row is not None:
            joint[lag - 1], usable[lag - 1] = kernel.lags[lag - 1] * row[item], 1
    return joint / (joint.sum() or 1), usable / (usable @ kernel.lags)


def _item_given(params, previous):
    """p(item | state, previous items) [K, V]."""
    own = _own_table(params)
    given = None if params.kernel is None else _kernel_given(params.kernel, previous)
    if given is None:
        return own
    mix = np.asarray(params.mix)[:, None]
    return (1 - mix) * own + mix * given[None, :]


def _emission(params, items, actions, gaps):
    """p(event | state) [L, K] of one user."""
    result = []
    for t, item in enumerate(items):
        value = _item_given(params, list(items[:t]))[:, item] * params.action[:, actions[t]]
        result.append(value * params.gap[:, gaps[t]] if t else value)
    return np.array(result)


def _all_paths(params, items, actions, gaps, segment=0):
    """Every state path with its joint probability with the events and the end."""
    emission = _emission(params, items, actions, gaps)
    paths = list(itertools.product(range(params.num_states), repeat=len(items)))
    joint = []
    for path in paths:
        value = float(params.start[segment, path[0]]) * emission[0, path[0]]
        for t in range(1, len(path)):
            before, here = path[t - 1], path[t]
            value *= (1 - params.stop[before]) * params.transition[before, here]
            value *= emission[t, here]
        joint.append(value * params.stop[path[-1]])
    return paths, np.array(joint, np.float64)


def _chi_square(seen, expected):
    kept = expected > 0
    assert seen[~kept].sum() == 0
    return ((seen[kept] - expected[kept]) ** 2 / expected[kept]).sum()


def _chi_limit(freedom):
    """About the 1 - 1e-4 quantile of chi-square (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3


def _short_users(params, num_rows):
    """Expected numbers [43] of users (item), (item, item), and longer ones, among num_rows."""
    expected, ends = np.zeros(6 + 36), np.asarray(params.stop)
    first = np.asarray(params.start)[0][:, None] * _item_given(params, [])
    expected[:6] = (first * ends[:, None]).sum(0)
    for item in range(6):
        moved = (first[:, item] * (1 - ends)) @ params.transition
        second = (moved * ends)[:, None] * _item_given(params, [item])
        expected[6 + 6 * item : 12 + 6 * item] = second.sum(0)
    return num_rows * np.append(expected, 1 - expected.sum())


def _count_short(events):
    """Numbers [43] of drawn users in the cells of `_short_users`."""
    items, lengths = np.asarray(events.items), np.asarray(events.lengths)
    cells = np.where(lengths == 1, items[:, 0], 6 + 6 * items[:, 0] + items[:, 1])
    return np.bincount(np.where(lengths <= 2, cells, 42), minlength=43)


@pytest.fixture(scope="session")
def toolbox():
    """The functions above under short names."""

    class Toolbox:
        settings = staticmethod(_settings)
        random_events = staticmethod(_random_events)
        random_params = staticmethod(_random_params)
        separated_params = staticmethod(_separated_params)
        own_table = staticmethod(_own_table)
        item_given = staticmethod(_item_given)
        kernel_given = staticmethod(_kernel_given)
        lags_given = staticmethod(_lags_given)
        emission = staticmethod(_emission)
        all_paths = staticmethod(_all_paths)
        chi_square = staticmethod(_chi_square)
        chi_limit = staticmethod(_chi_limit)
        short_users = staticmethod(_short_users)
        count_short = staticmethod(_count_short)
        sizes = hmm.HmmSizes(NUM_ITEMS, NUM_ACTIONS, NUM_GAPS)

        @staticmethod
        def users(events):
            """(items, actions, gaps) lists of each user."""
            grids = [np.asarray(g) for g in (events.items, events.actions, events.gaps)]
            return [
                [grid[row, :length] for grid in grids]
                for row, length in enumerate(np.asarray(events.lengths))
            ]

    return Toolbox


@pytest.fixture(params=["plain", "category", "plain+kernel", "category+kernel"])
def model(request, toolbox):
    """One model of each family."""
    return _model(request.param, toolbox)


@pytest.fixture(params=["plain", "category+kernel"])
def extreme(request, toolbox):
    """The simplest and the fullest family, where the parts in between add nothing."""
    return _model(request.param, toolbox)


def _model(name, toolbox):
    kind, _, with_kernel = name.partition("+")
    rng = np.random.default_rng(3)
    kernel = None
    if with_kernel:
        log = toolbox.random_events(rng, [6, 4, 5, 1], 6)
        kernel = hmm.build_kernel([log], NUM_ITEMS, toolbox.settings(kernel_neighbours=3))
    return toolbox.random_params(rng, kind, kernel)


@pytest.fixture
def traced_once():
    """Counts compilations of a jitted function while it is used."""

    def cache_growth(function, use):
        before = function._cache_size()
        use()
        return function._cache_size() - before

    return cache_growth


assert jax.config.jax_numpy_rank_promotion == "raise"
