"""Fills and prefixes against all fills and state paths, and by invariance.

Chi-square limits are set for about 1e-4 false alarms over all seeds.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import hmm


def _fill_odds(toolbox, params, user, places, blank_gaps=()):
    """p(rest, fill) of every fill with items at `places`, as {(items of the fill): [K paths]}."""
    items, actions, gaps = (list(part) for part in user)
    odds = {}
    for fill in itertools.product(range(6), repeat=len(places)):
        for place, item in zip(places, fill, strict=True):
            items[place] = item
        emission = np.array(
            [toolbox.item_given(params, items[:t])[:, items[t]] for t in range(len(items))]
        )
        for t in range(len(items)):
            if t in places:
                continue
            emission[t] *= params.action[:, actions[t]]
            if t and t not in blank_gaps:
                emission[t] *= params.gap[:, gaps[t]]
        odds[fill] = _forward_by_state(params, emission, places[0])
    return odds


def _forward_by_state(params, emission, place):
    """Joint probability [K] of the events and the state at `place`, by enumeration of paths."""
    result, ends = np.zeros(3), np.asarray(params.stop)
    for path in itertools.product(range(3), repeat=len(emission)):
        value = params.start[0, path[0]] * emission[0, path[0]]
        for t in range(1, len(path)):
            before, here = path[t - 1], path[t]
            value *= (1 - ends[before]) * params.transition[before, here] * emission[t, here]
        result[path[place]] += value * ends[path[-1]]
    return result


def _item_shares(odds):
    shares = np.array([by_state.sum() for by_state in odds.values()])
    return shares / shares.sum()


def _copies(one, num):
    return jax.tree.map(lambda leaf: np.repeat(leaf, num, axis=0), one)


def _mask(places, shape):
    mask = np.zeros(shape, bool)
    mask[:, list(places)] = True
    return mask


@pytest.mark.parametrize("kind", ["plain", "category"])
def test_fills_follow_the_posterior(toolbox, kind):
    """Without kernel: items of two neighbours, and the action and gap of one, against all paths."""
    params = toolbox.random_params(np.random.default_rng(3), kind)
    one = toolbox.random_events(np.random.default_rng(8), [4], 5)
    many = _copies(one, 40_000)
    places = (1, 2)
    filled = hmm.sample_fills(jax.random.key(0), params, many, _mask(places, (40_000, 5)))
    items = np.asarray(filled.items)
    odds = _fill_odds(toolbox, params, toolbox.users(one)[0], places)
    seen = np.bincount(items[:, 1] * 6 + items[:, 2], minlength=36)
    assert toolbox.chi_square(seen, 40_000 * _item_shares(odds)) < toolbox.chi_limit(35)
    state = sum(odds.values())
    state /= state.sum()
    gap = params.gap * (np.arange(4) > 0)
    context = state @ (
        params.action[:, :, None] * (gap / gap.sum(1, keepdims=True))[:, None]
    ).reshape(3, 8)
    seen = np.bincount(
        np.asarray(filled.actions)[:, 1] * 4 + np.asarray(filled.gaps)[:, 1], minlength=8
    )
    assert toolbox.chi_square(seen, 40_000 * context) < toolbox.chi_limit(7)
    for name in ("items", "actions", "gaps"):
        np.testing.assert_array_equal(
            getattr(filled, name)[:, [0, 3]], getattr(many, name)[:, [0, 3]]
        )
        assert not np.asarray(getattr(filled, name))[:, 4].any()


def _distance(toolbox, params, one, places, **options):
    """Total variation between drawn and true distributions of the fill, and its noise."""
    num = 20_000
    filled = hmm.sample_fills(
        jax.random.key(0), params, _copies(one, num), _mask(places, (num, 4)), **options
    )
    cells = np.zeros(num, int)
    for place in places:
        cells = 6 * cells + np.asarray(filled.items)[:, place]
    expected = _item_shares(_fill_odds(toolbox, params, toolbox.users(one)[0], places))
    seen = np.bincount(cells, minlength=expected.size) / num
    return 0.5 * np.abs(seen - expected).sum()


@pytest.fixture
def kernel_model(toolbox):
    """A model in which the kernel speaks loudly: 9 in 10 items follow previous ones."""
    rng = np.random.default_rng(3)
    log = toolbox.random_events(rng, [6, 4, 5, 1], 6)
    kernel = hmm.build_kernel([log], 6, toolbox.settings(kernel_neighbours=3))
    params = toolbox.random_params(rng, "plain", kernel)
    params.mix[:] = 0.9
    return params


@pytest.mark.slow
def test_candidates_and_sweeps_come_near_the_truth(toolbox, kernel_model):
    """Total variation of 20,000 fills from enumeration; its noise is about .007 and .015."""
    one = toolbox.random_events(np.random.default_rng(9), [4], 4)
    single, pair = (
        [_distance(toolbox, kernel_model, one, places, **options) for options in _EFFORTS]
        for places in ((1,), (1, 2))
    )
    assert single[0] > 0.3 and single[1] < 0.3 * single[0]
    assert single[2] < 0.02 and pair[2] < 0.03 < pair[1]


_EFFORTS = (
    {"num_candidates": 1},
    {"num_candidates": 32},
    {"num_candidates": 32, "num_sweeps": 6},
)


def test_fills_keep_rows_apart_and_padding_empty(toolbox, extreme):
    rng = np.random.default_rng(8)
    events = toolbox.random_events(rng, [4, 0, 1, 3], 4)
    missing = np.ones((4, 4), bool)
    missing[0, 2] = False
    key = jax.random.key(0)
    whole = hmm.sample_fills(key, extreme, events, missing)
    np.testing.assert_array_equal(whole.lengths, events.lengths)
    real = np.arange(4)[None, :] < np.asarray(events.lengths)[:, None]
    assert not np.asarray(whole.items)[~real].any() and not np.asarray(whole.gaps)[:, 0][1:].any()
    assert (np.asarray(whole.gaps)[:, 1:][real[:, 1:]] > 0).all()
    tail = jax.tree.map(lambda leaf: leaf[2:], events)
    part = hmm.sample_fills(key, extreme, tail, missing[2:], first_row=2)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:], b), whole, part)


def test_what_is_missing_is_not_read(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(8), [4] * 64, 4)
    missing = _mask((0, 2), (64, 4))
    spoiled = hmm.Events(
        *(np.where(missing, -1, part) for part in (events.items, events.actions, events.gaps)),
        events.lengths,
    )
    one, other = (
        hmm.sample_fills(jax.random.key(0), extreme, users, missing) for users in (events, spoiled)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_prefixes_follow_the_posterior(toolbox):
    """Two new items in front of a user, whose once first gap says nothing and is drawn."""
    params = toolbox.random_params(np.random.default_rng(3), "plain")
    one = toolbox.random_events(np.random.default_rng(8), [2], 2)
    many = _copies(one, 40_000)
    longer = hmm.sample_prefixes(jax.random.key(0), params, many, 2)
    items, gaps = np.asarray(longer.items), np.asarray(longer.gaps)
    assert (np.asarray(longer.lengths) == 4).all()
    np.testing.assert_array_equal(items[:, 2:], many.items)
    np.testing.assert_array_equal(gaps[:, 3], many.gaps[:, 1])
    user = [np.concatenate([[0, 0], part]) for part in toolbox.users(one)[0]]
    odds = _fill_odds(toolbox, params, user, (0, 1), blank_gaps=(2,))
    seen = np.bincount(items[:, 0] * 6 + items[:, 1], minlength=36)
    assert toolbox.chi_square(seen, 40_000 * _item_shares(odds)) < toolbox.chi_limit(35)
    assert not gaps[:, 0].any() and set(np.unique(gaps[:, 2])) == {1, 2, 3}


def test_prefixes_of_several_lengths(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(8), [3, 0, 1, 2], 3)
    num_new = np.array([2, 2, 0, 1])
    longer = hmm.sample_prefixes(jax.random.key(0), extreme, events, num_new)
    assert longer.items.shape == (4, 5)
    np.testing.assert_array_equal(longer.lengths, [5, 0, 1, 3])
    for row, new in enumerate([2, 0, 0, 1]):
        old = int(events.lengths[row])
        np.testing.assert_array_equal(longer.items[row, new : new + old], events.items[row, :old])
        np.testing.assert_array_equal(
            longer.actions[row, new : new + old], events.actions[row, :old]
        )
        assert not np.asarray(longer.items)[row, new + old :].any()
    part = hmm.sample_prefixes(
        jax.random.key(0),
        extreme,
        jax.tree.map(lambda leaf: leaf[2:], events),
        num_new[2:],
        first_row=2,
    )
    np.testing.assert_array_equal(longer.items[2:, :4], part.items)


def test_prefix_is_the_fill_whose_first_places_and_next_gap_are_missing(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(8), [3, 2, 1, 3], 3)
    longer = hmm.sample_prefixes(jax.random.key(0), extreme, events, 2)
    moved = hmm.Events(
        *(np.pad(part, ((0, 0), (2, 0))) for part in (events.items, events.actions, events.gaps)),
        events.lengths + 2,
    )
    missing, once_first = _mask((0, 1), (4, 5)), _mask((2,), (4, 5))
    key = jax.random.key(0)
    filled = hmm.sample_fills(key, extreme, moved, missing, missing_gaps=once_first)
    jax.tree.map(np.testing.assert_array_equal, longer, filled)
    with pytest.raises(ValueError, match=r"missing_gaps is int64 \(4, 5\): expected bool"):
        hmm.sample_fills(key, extreme, moved, missing, missing_gaps=missing.astype(int))


def test_fresh_fills_in_a_train_step_compile_once(toolbox, extreme, traced_once):
    tables = hmm.make_tables(extreme)
    events = jax.tree.map(jnp.asarray, toolbox.random_events(np.random.default_rng(8), [4] * 8, 4))
    rows = jnp.arange(8)

    @jax.jit
    def step(total, key, tables, events):
        missing = jax.random.bernoulli(key, 0.3, events.items.shape)
        fresh, _ = hmm.draw_users(key, tables, rows, max_len=4)
        filled = hmm.draw_fills(key, tables, events, missing, rows, num_candidates=4)
        return total + fresh.items.sum() + filled.items.sum()

    def run():
        total = jnp.zeros((), jnp.int32)
        for number in range(3):
            total = step(total, jax.random.fold_in(jax.random.key(0), number), tables, events)
        assert total > 0

    assert traced_once(step, run) == 1


def test_bad_input_is_named(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(8), [3], 3)
    missing, key = np.zeros((1, 3), bool), jax.random.key(0)
    with pytest.raises(ValueError, match=r"missing is bool \(1, 2\): expected bool \(1, 3\)"):
        hmm.sample_fills(key, extreme, events, missing[:, :2])
    with pytest.raises(ValueError, match="num_candidates = 0"):
        hmm.sample_fills(key, extreme, events, missing, num_candidates=0)
    with pytest.raises(ValueError, match="num_sweeps = 0"):
        hmm.sample_prefixes(key, extreme, events, 1, num_sweeps=0)
    with pytest.raises(ValueError, match=r"num_new\[0\] = -1"):
        hmm.sample_prefixes(key, extreme, events, np.array([-1]))
    with pytest.raises(ValueError, match=r"num_new is float64"):
        hmm.sample_prefixes(key, extreme, events, 1.5)
    events.items[0, 1] = 6
    with pytest.raises(ValueError, match=r"items\[0, 1\] = 6"):
        hmm.sample_fills(key, extreme, events, missing)
