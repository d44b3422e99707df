"""Baum-Welch and counting: the E-step against enumeration, EM's promises, recovery."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax import hmm
from recjax.hmm import counts as counts_module
from recjax.hmm import expectation
from recjax.hmm.events import pack_events
from recjax.hmm.expectation import RowPlan
from recjax.hmm.passes import expected_counts


def _enumerated_counts(toolbox, params, events):
    """Expected counts of users that the kernel was not counted from."""
    num_states, num_items = 3, 6
    total = {
        "start": np.zeros((1, num_states)),
        "transition": np.zeros((num_states, num_states)),
        "stop": np.zeros(num_states),
        "go_on": np.zeros(num_states),
        "action": np.zeros((num_states, 2)),
        "gap": np.zeros((num_states, 4)),
        "kernel": np.zeros(num_states),
        "kernel_chance": np.zeros(num_states),
        "lags": np.zeros(2),
        "lag_chance": np.zeros(2),
        "own": np.zeros((num_items, num_states)),
    }
    own = toolbox.own_table(params)
    for items, actions, gaps in toolbox.users(events):
        if not len(items):
            continue
        paths, joint = toolbox.all_paths(params, items, actions, gaps)
        for path, weight in zip(paths, joint / joint.sum(), strict=True):
            total["start"][0, path[0]] += weight
            total["stop"][path[-1]] += weight
            for t, state in enumerate(path):
                total["action"][state, actions[t]] += weight
                if t:
                    total["transition"][path[t - 1], state] += weight
                    total["gap"][state, gaps[t]] += weight
                    total["go_on"][path[t - 1]] += weight
                by_own = 1.0
                previous = list(items[:t])
                given = params.kernel and toolbox.kernel_given(params.kernel, previous)
                if given is not None:
                    whole = toolbox.item_given(params, previous)[state, items[t]]
                    by_own = (1 - params.mix[state]) * own[state, items[t]] / whole
                    total["kernel"][state] += weight * (1 - by_own)
                    total["kernel_chance"][state] += weight
                    chosen, chance = toolbox.lags_given(params.kernel, previous, items[t])
                    total["lags"] += weight * (1 - by_own) * chosen
                    total["lag_chance"] += weight * (1 - by_own) * chance
                total["own"][items[t], state] += weight * by_own
    return total


def _foreign(kernel):
    """A kernel with counts far above one event's, so that leaving out changes nothing."""
    return kernel and dataclasses.replace(
        kernel, counts=kernel.counts * 1e6, totals=kernel.totals * 1e6
    )


def test_expected_counts_equal_enumeration(toolbox, model):
    params = dataclasses.replace(model, kernel=_foreign(model.kernel))
    events = toolbox.random_events(np.random.default_rng(5), [4, 1, 3, 0, 2, 4], 4)
    expected = _enumerated_counts(toolbox, params, events)
    device = jax.tree.map(jax.numpy.asarray, params)
    counts, value = expected_counts(device, lambda: [events])
    for name in ("start", "transition", "stop", "go_on", "action", "gap", "kernel_chance"):
        np.testing.assert_allclose(getattr(counts, name), expected[name], atol=1e-4, err_msg=name)
    for name in ("kernel", "lags", "lag_chance") if params.kernel else ():
        np.testing.assert_allclose(getattr(counts, name), expected[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(value, hmm.log_likelihood(params, events).sum(), rtol=1e-5)
    if isinstance(params.items, hmm.PlainItems):
        np.testing.assert_allclose(counts.items["table"], expected["own"], atol=1e-4)
    else:
        category_of = params.items.category_of
        by_category = np.stack([expected["own"][category_of == c].sum(0) for c in range(3)])
        np.testing.assert_allclose(counts.items["category"], by_category, atol=1e-4)
        np.testing.assert_allclose(counts.items["item"], expected["own"].sum(1), atol=1e-4)


def _log(toolbox, num_users=120, seed=0):
    """Users of a known model with a kernel-like habit, and their batches of one shape."""
    params = toolbox.random_params(np.random.default_rng(seed), "plain")
    events, _ = hmm.sample_users(jax.random.key(seed), params, num_users, max_len=8)
    events = jax.tree.map(np.asarray, events)

    def batches():
        for first in range(0, num_users, 40):
            yield jax.tree.map(lambda leaf, first=first: leaf[first : first + 40], events)

    return events, batches


@pytest.mark.parametrize(
    ("smoothing", "with_category", "with_kernel"),
    [(0.0, False, False), (0.3, False, True), (0.0, True, True), (0.3, True, False)],
)
def test_penalised_likelihood_never_falls(toolbox, smoothing, with_category, with_kernel):
    _, batches = _log(toolbox)
    settings = toolbox.settings(smoothing=smoothing, num_iterations=25)
    kernel = hmm.build_kernel(batches(), 6, settings) if with_kernel else None
    category = np.array([0, 1, 0, 2, 1, 0]) if with_category else None
    params, history = hmm.fit_baum_welch(
        jax.random.key(0), batches, toolbox.sizes, settings, kernel=kernel, item_category=category
    )
    values = np.array([row["penalised"] for row in history])
    assert len(values) > 5 and (np.diff(values) > -1e-6).all()
    assert values[-1] - values[0] > 0.01
    hmm.validate_params(params)
    if with_kernel:
        assert not np.allclose(params.mix, 0.5)
        assert not np.allclose(params.kernel.lags, kernel.lags, atol=0.01)


def test_lag_weights_are_recovered(toolbox):
    """Items that mostly follow the one two events back; lags within .05 from a start at 1/lag."""
    rng = np.random.default_rng(0)
    pairs = toolbox.random_events(rng, [6] * 10, 6)
    kernel = hmm.build_kernel([pairs], 6, toolbox.settings(kernel_neighbours=3))
    start = toolbox.random_params(rng, "plain", _foreign(kernel))
    start.mix[:], start.stop[:] = 0.9, 0.1
    lags = np.array([0.2, 0.8], np.float32)
    true = dataclasses.replace(start, kernel=dataclasses.replace(start.kernel, lags=lags))
    events, _ = hmm.sample_users(jax.random.key(0), true, 2000, max_len=12)
    events = jax.tree.map(np.asarray, events)
    found, _ = hmm.fit_baum_welch(
        jax.random.key(0),
        lambda: [events],
        toolbox.sizes,
        toolbox.settings(num_iterations=15),
        initial=start,
    )
    np.testing.assert_allclose(found.kernel.lags, lags, atol=0.05)


def test_kernel_part_is_not_overfitted_on_unlinked_items(toolbox):
    """Items drawn independently: leaving the event out keeps the kernel near useless."""
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 200, (300, 5)).astype(np.int32)
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.full(300, 5, np.int32))
    settings = toolbox.settings(num_states=2, num_iterations=15, kernel_neighbours=50)
    kernel = hmm.build_kernel([events], 200, settings)
    params, _ = hmm.fit_baum_welch(
        jax.random.key(0), lambda: [events], hmm.HmmSizes(200), settings, kernel=kernel
    )
    assert float(np.max(params.mix)) < 0.2


def test_known_model_is_recovered(toolbox):
    """Three well separated states; tables within .05 after matching the states."""
    true = toolbox.separated_params()
    events, _ = hmm.sample_users(jax.random.key(0), true, 3000, max_len=30)
    events = jax.tree.map(np.asarray, events)
    settings = toolbox.settings(num_iterations=60, tolerance=1e-6)
    found, _ = hmm.fit_baum_welch(jax.random.key(1), lambda: [events], toolbox.sizes, settings)
    found = jax.tree.map(np.asarray, found)
    order = np.array(
        [np.argmin(np.abs(found.items.table.T - row).sum(1)) for row in true.items.table.T]
    )
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found.start[:, order], true.start, atol=0.05)
    np.testing.assert_allclose(found.transition[order][:, order], true.transition, atol=0.05)
    np.testing.assert_allclose(found.stop[order], true.stop, atol=0.05)
    np.testing.assert_allclose(found.action[order], true.action, atol=0.05)
    np.testing.assert_allclose(found.gap[order], true.gap, atol=0.05)
    np.testing.assert_allclose(found.items.table[:, order], true.items.table, atol=0.05)


def test_batch_split_changes_nothing(toolbox):
    events, batches = _log(toolbox)
    settings = toolbox.settings(num_iterations=5)
    kernel = hmm.build_kernel(batches(), 6, settings)
    key = jax.random.key(0)
    split, _ = hmm.fit_baum_welch(key, batches, toolbox.sizes, settings, kernel=kernel)
    whole, _ = hmm.fit_baum_welch(key, lambda: [events], toolbox.sizes, settings, kernel=kernel)
    padded = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.zeros_like(leaf[:7])]), events
    )  # padding rows of length 0
    more, _ = hmm.fit_baum_welch(key, lambda: [padded], toolbox.sizes, settings, kernel=kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), split, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), split, more)


def test_sharded_rows_give_the_same_model(toolbox):
    _, batches = _log(toolbox)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    settings = toolbox.settings(num_iterations=3)
    kernel = hmm.build_kernel(batches(), 6, settings)
    key = jax.random.key(0)
    one, _ = hmm.fit_baum_welch(key, batches, toolbox.sizes, settings, kernel=kernel)
    with jax.set_mesh(mesh):
        eight, _ = hmm.fit_baum_welch(
            key,
            batches,
            toolbox.sizes,
            settings,
            kernel=kernel,
            place=lambda layout: jax.device_put(layout, sharding),
        )
    assert len(eight.start.sharding.device_set) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, eight)


def test_second_seed_does_not_compile(toolbox, traced_once):
    _, batches = _log(toolbox)
    settings = toolbox.settings(num_iterations=2)

    def fit(seed):
        hmm.fit_baum_welch(jax.random.key(seed), batches, toolbox.sizes, settings, held_out=batches)

    fit(0)
    for function in (expectation.add_counts, counts_module.estimate):
        assert traced_once(function, lambda: fit(1)) == 0


def test_held_out_users_stop_the_fit_and_choose_the_model(toolbox):
    _, batches = _log(toolbox, num_users=40)
    _, held_out = _log(toolbox, num_users=400)
    settings = toolbox.settings(num_states=6, num_iterations=60, smoothing=0.01)
    best, history = hmm.fit_baum_welch(
        jax.random.key(0), batches, toolbox.sizes, settings, held_out=held_out
    )
    values = [row["held_out"] for row in history]
    assert len(values) < 60 and values[-1] < max(values)
    found = hmm.log_likelihood_per_event(best, held_out)
    np.testing.assert_allclose(found, max(values), rtol=1e-6)


def test_tolerance_stops_the_fit(toolbox):
    _, batches = _log(toolbox)
    lengths = []
    for tolerance in (0.0, 1e-2):
        settings = toolbox.settings(num_iterations=30, tolerance=tolerance)
        _, history = hmm.fit_baum_welch(jax.random.key(0), batches, toolbox.sizes, settings)
        lengths.append(len(history))
    assert lengths[0] == 30 and lengths[1] < 15


def test_observed_states_are_counted(toolbox):
    events, batches = _log(toolbox)
    smoothing = 0.2
    settings = toolbox.settings(num_states=2, smoothing=smoothing)
    params = hmm.fit_counts(batches, toolbox.sizes, settings, states_of=lambda batch: batch.actions)
    start, moves = np.full(2, smoothing), np.full((2, 2), smoothing)
    stop, visits = np.full(2, smoothing), np.full(2, 2 * smoothing)
    gap = np.full((2, 4), smoothing)
    for _, actions, gaps in toolbox.users(events):
        start[actions[0]] += 1
        stop[actions[-1]] += 1
        np.add.at(visits, actions, 1)
        np.add.at(moves, (actions[:-1], actions[1:]), 1)
        np.add.at(gap, (actions[1:], gaps[1:]), 1)
    np.testing.assert_allclose(params.start[0], start / start.sum(), rtol=1e-5)
    np.testing.assert_allclose(params.stop, stop / visits, rtol=1e-5)
    np.testing.assert_allclose(params.transition, moves / moves.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(params.gap, gap / gap.sum(1, keepdims=True), rtol=1e-5)
    assert (np.diag(params.action) > 0.99).all()


def test_observed_states_out_of_range_are_refused(toolbox):
    _, batches = _log(toolbox)
    with pytest.raises(ValueError, match="states lie in 5..5"):
        hmm.fit_counts(
            batches, toolbox.sizes, toolbox.settings(), states_of=lambda b: b.actions * 0 + 5
        )


@pytest.mark.parametrize("category", [None, np.array([0, 1, 0, 2, 1, 0])])
def test_empty_states_are_reseeded_on_request(toolbox, category):
    _, batches = _log(toolbox)
    settings = toolbox.settings(num_iterations=8, smoothing=1e-3)
    initial = hmm.initial_params(jax.random.key(0), toolbox.sizes, settings, item_category=category)
    dead = np.array([0.5, 0.5, 0.0], np.float32)
    initial = dataclasses.replace(initial, start=dead[None], transition=np.tile(dead, (3, 1)))
    visits = []
    for reseed in (False, True):
        params, _ = hmm.fit_baum_welch(
            jax.random.key(0),
            batches,
            toolbox.sizes,
            settings,
            initial=initial,
            item_category=category,
            reseed_empty=reseed,
        )
        hmm.validate_params(params)
        visits.append(hmm.describe_states(params, ["view", "buy"])[-1]["visit_share"])
    assert visits[0] < 1e-3 < 0.02 < visits[1]


def test_bad_events_are_named(toolbox):
    settings = toolbox.settings(num_iterations=1)
    events, _ = _log(toolbox)
    for name, value, message in (
        ("items", 6, r"items\[2, 0\] = 6: expected 0 <= id < 6"),
        ("actions", -1, r"actions\[2, 0\] = -1"),
        ("gaps", 4, r"gaps\[2, 0\] = 4"),
        ("lengths", 9, r"lengths\[2\] = 9"),
    ):
        grid = np.array(getattr(events, name))
        grid[(2, 0) if grid.ndim == 2 else 2] = value
        bad = dataclasses.replace(events, **{name: grid})
        with pytest.raises(ValueError, match=message):
            hmm.fit_baum_welch(jax.random.key(0), lambda bad=bad: [bad], toolbox.sizes, settings)
    nothing = dataclasses.replace(events, lengths=events.lengths * 0)
    with pytest.raises(ValueError, match="no events"):
        hmm.fit_baum_welch(jax.random.key(0), lambda: [nothing], toolbox.sizes, settings)
    with pytest.raises(ValueError, match=r"item_category\[1\] = -1"):
        hmm.fit_baum_welch(
            jax.random.key(0),
            lambda: [events],
            toolbox.sizes,
            settings,
            item_category=np.array([0, -1, 0, 0, 0, 0]),
        )


def test_plans_of_rows_change_no_count(toolbox):
    events, _ = _log(toolbox)
    kernel = hmm.build_kernel([events], toolbox.sizes.num_items, toolbox.settings())
    params = toolbox.random_params(np.random.default_rng(0), "plain", kernel)
    layout = next(pack_events([events], 16, 32))
    results = [
        expectation.add_counts(counts_module.zero_counts(params), params, layout, plan=plan)
        for plan in (RowPlan(1, 1), RowPlan(1, 4), RowPlan(4, 1), RowPlan(2, 4))
    ]
    for other in results[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), results[0], other
        )
    large = jax.tree.map(lambda leaf: np.zeros((3000, 100), leaf.dtype), layout)
    plan = expectation.plan_rows(large)
    assert plan.parts == 1 and 3000 % plan.blocks == 0 and 3000 * 100 / plan.blocks <= 16_384
