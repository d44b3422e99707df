"""Users bound to contain an item: against enumeration of all short users, and by invariance.

Chi-square limits are set for about 1e-4 false alarms over all seeds.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax import hmm


def _users_around(toolbox, params, item, max_len):
    """{(place, items of the user): weight} over all users and places where `item` stands."""
    own, ends = toolbox.own_table(params), np.asarray(params.stop)
    weights = {}
    for length in range(1, max_len + 1):
        for items in itertools.product(range(6), repeat=length):
            alive = params.start[0] * own[:, items[0]]
            for other in items[1:]:
                alive = (alive * (1 - ends)) @ params.transition * own[:, other]
            share = (alive * ends).sum() if length < max_len else alive.sum()
            for place in np.flatnonzero(np.array(items) == item):
                weights[int(place), items] = share
    return weights


@pytest.mark.parametrize("kind", ["plain", "category"])
def test_users_stand_around_a_random_occurrence(toolbox, kind):
    params = toolbox.random_params(np.random.default_rng(3), kind)
    num = 40_000
    events, places = hmm.sample_bound(jax.random.key(0), params, np.full(num, 4), max_len=3)
    weights = _users_around(toolbox, params, 4, 3)
    number = {cell: index for index, cell in enumerate(weights)}
    seen = np.zeros(len(weights))
    for place, items, length in zip(
        np.asarray(places).tolist(),
        np.asarray(events.items).tolist(),
        np.asarray(events.lengths).tolist(),
        strict=True,
    ):
        seen[number[place, tuple(items[:length])]] += 1
    expected = np.array(list(weights.values()))
    expected *= num / expected.sum()
    rare = expected < 5
    seen, expected = (np.append(part[~rare], part[rare].sum()) for part in (seen, expected))
    assert toolbox.chi_square(seen, expected) < toolbox.chi_limit(seen.size - 1)
    assert not np.asarray(events.gaps)[:, 0].any()


def _loud(model):
    return dataclasses.replace(model, mix=np.full(3, 0.9, np.float32))


def _kernel_params(toolbox):
    rng = np.random.default_rng(3)
    log = toolbox.random_events(rng, [6, 4, 5, 1], 6)
    kernel = hmm.build_kernel([log], 6, toolbox.settings(kernel_neighbours=3))
    return _loud(toolbox.random_params(rng, "plain", kernel))


def test_items_around_lead_to_the_bound_one_and_follow_it(toolbox):
    """With kernel: the item before a bound one at place 1, and the item after one at place 0."""
    params, item, num = _kernel_params(toolbox), 4, 20_000
    own, go_on = toolbox.own_table(params), (1 - params.stop)[:, None] * params.transition
    two = params.start[0][:, None] * go_on * own[None, :, item]  # states before and at the item
    leads = np.stack([toolbox.item_given(params, [first])[:, item] for first in range(6)])
    given = own[:, None, :] * leads.T[None]  # states, first item
    given /= given.sum(-1, keepdims=True)
    before = np.einsum("ij,ijv->v", two, given) / two.sum()
    state = (params.start[0] * own[:, item]) @ go_on
    after = state / state.sum() @ toolbox.item_given(params, [item])
    distances = []
    for num_candidates in (1, 32):
        events, places = hmm.sample_bound(
            jax.random.key(0), params, np.full(num, item), max_len=2, num_candidates=num_candidates
        )
        items, lengths, places = (np.asarray(p) for p in (events.items, events.lengths, places))
        first = np.bincount(items[places == 1, 0], minlength=6)
        distances.append(0.5 * abs(first / first.sum() - before).sum())
        second = np.bincount(items[(places == 0) & (lengths == 2), 1], minlength=6)
        assert toolbox.chi_square(second, second.sum() * after) < toolbox.chi_limit(5)
    assert distances[1] < 0.03 and distances[1] < 0.3 * distances[0]


@pytest.mark.parametrize("no_repeats", [False, True])
def test_every_row_has_its_item_and_depends_on_itself(toolbox, extreme, no_repeats):
    bound = np.random.default_rng(0).integers(0, 6, 500).astype(np.int32)
    options = {"max_len": 7, "no_repeats": no_repeats, "num_candidates": 4}
    events, places = hmm.sample_bound(jax.random.key(0), extreme, bound, **options)
    items, lengths, places = (np.asarray(p) for p in (events.items, events.lengths, places))
    np.testing.assert_array_equal(items[np.arange(500), places], bound)
    assert (places < lengths).all() and (lengths <= 7).all() and set(places.tolist()) >= {0, 1, 2}
    real = np.arange(7)[None, :] < lengths[:, None]
    assert not items[~real].any() and (np.asarray(events.gaps)[:, 1:][real[:, 1:]] > 0).all()
    if no_repeats:
        for row, length in zip(items, lengths, strict=True):
            assert len(set(row[:length].tolist())) == length
    part, part_places = hmm.sample_bound(
        jax.random.key(0), extreme, bound[100:], first_row=100, **options
    )
    np.testing.assert_array_equal(places[100:], part_places)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[100:], b), events, part)


def test_a_cold_item_is_bound(toolbox, extreme):
    """An item that only smoothing knows: p = 1e-6 in every state, and no kernel row names it."""
    params = dataclasses.replace(extreme, items=_cold(toolbox, extreme))
    if params.kernel is not None:
        kept = np.asarray(params.kernel.neighbours) != 5
        kernel = dataclasses.replace(params.kernel, counts=params.kernel.counts * kept)
        params = dataclasses.replace(params, kernel=kernel)
    events, places = hmm.sample_bound(jax.random.key(0), params, np.full(500, 5), max_len=7)
    items = np.asarray(events.items)
    assert (items[np.arange(500), np.asarray(places)] == 5).all()
    assert (np.asarray(events.lengths) > 1).mean() > 0.3
    assert ((items == 5).sum(1) == 1).all()


def _cold(toolbox, params):
    table = toolbox.own_table(params)
    table[:, 5] = 0
    table *= (1 - 1e-6) / table.sum(1, keepdims=True)
    table[:, 5] = 1e-6
    return hmm.PlainItems(np.ascontiguousarray(table.T.astype(np.float32)))


def test_segments_choose_the_start(toolbox):
    params = toolbox.random_params(np.random.default_rng(3), "plain", num_segments=2)
    params.stop[:], params.items.table[:] = 1.0, np.full((6, 3), 1 / 6)
    params.items.table[:, 0], params.start[:] = [1, 0, 0, 0, 0, 0], [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match=r"bound_items\[1\] = 3"):
        hmm.sample_bound(
            jax.random.key(0), params, np.array([0, 3]), max_len=3, segments=np.array([0, 0])
        )
    events, _ = hmm.sample_bound(
        jax.random.key(0), params, np.array([0, 3]), max_len=3, segments=np.array([0, 1])
    )
    np.testing.assert_array_equal(events.items[:, 0], [0, 3])
    np.testing.assert_array_equal(events.segments, [0, 1])


def test_fresh_bound_users_in_a_train_step_compile_once(extreme, traced_once):
    tables, rows = hmm.make_tables(extreme), jnp.arange(8)

    @jax.jit
    def step(total, key, tables, items):
        events, _ = hmm.draw_bound(key, tables, items, rows, max_len=4, num_candidates=4)
        return total + events.lengths.sum()

    def run():
        total = jnp.zeros((), jnp.int32)
        for number in range(3):
            key = jax.random.fold_in(jax.random.key(0), number)
            total = step(total, key, tables, jnp.full(8, number))
        assert total >= 24

    assert traced_once(step, run) == 1


def test_items_that_cannot_be_drawn_are_named(toolbox):
    params, key = toolbox.random_params(np.random.default_rng(3), "plain"), jax.random.key(0)
    for items, message in (
        (np.array([0, 6]), r"bound_items\[1\] = 6: expected 0 <= item < 6"),
        (np.array([0.5]), "bound_items is float64"),
        (np.array([[1]]), r"\(1, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            hmm.sample_bound(key, params, items, max_len=3)
    table = params.items.table
    table[2, :2] = 0  # only state 2 draws item 2, and nobody gets there
    table /= table.sum(0)
    params.start[:], params.transition[:, 2] = [[0.5, 0.5, 0]], 0
    params.transition[:] /= params.transition.sum(1, keepdims=True)
    with pytest.raises(ValueError, match=r"bound_items\[1\] = 2: no state that a user reaches"):
        hmm.sample_bound(key, params, np.array([0, 2]), max_len=3)
    with pytest.raises(ValueError, match="max_len = 0"):
        hmm.sample_bound(key, params, np.array([0]), max_len=0)


@pytest.mark.slow
def test_conditional_rows_are_equal_on_one_and_on_eight_devices(toolbox):
    params, tables = _kernel_params(toolbox), hmm.make_tables(_kernel_params(toolbox))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    by_row = NamedSharding(mesh, PartitionSpec("data"))
    users = toolbox.random_events(np.random.default_rng(8), [4] * 16, 4)
    missing = np.random.default_rng(0).random((16, 4)) < 0.5
    given = (jax.tree.map(jnp.asarray, users), jnp.asarray(missing), jnp.arange(16))
    everywhere = jax.device_put(tables, NamedSharding(mesh, PartitionSpec()))
    key, spread = jax.random.key(0), jax.device_put(given, by_row)
    one = hmm.draw_fills(key, tables, *given, num_candidates=4)
    eight = hmm.draw_fills(key, everywhere, *spread, num_candidates=4)
    assert len(eight.items.sharding.device_set) == 8
    jax.tree.map(np.testing.assert_array_equal, one, eight)
    items = jnp.arange(16) % params.items.num_items
    options = {"max_len": 4, "num_candidates": 4}
    alone = hmm.draw_bound(key, tables, items, given[2], **options)
    together = hmm.draw_bound(key, everywhere, jax.device_put(items, by_row), spread[2], **options)
    jax.tree.map(np.testing.assert_array_equal, alone, together)
