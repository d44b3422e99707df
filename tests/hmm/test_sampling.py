"""Draws by frequency and by invariance.

Frequency tests use fixed seeds; limits are set for about 1e-4 false alarms over all seeds.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax import hmm
from recjax.hmm import item_draws, sampling


def test_short_users_follow_the_model(toolbox, extreme):
    """Chi-square over (items, lengths) of users up to 2 events, all else summed by brute force."""
    num_rows = 60_000
    events, _ = hmm.sample_users(jax.random.key(1), extreme, num_rows, max_len=12)
    seen, expected = toolbox.count_short(events), toolbox.short_users(extreme, num_rows)
    assert toolbox.chi_square(seen, expected) < toolbox.chi_limit(42)


def test_third_item_follows_the_kernel_window(toolbox):
    """With the kernel always on, item 3 given items 1 and 2 mixes the rows of both lags."""
    rng = np.random.default_rng(3)
    log = toolbox.random_events(rng, [6, 4, 5], 6)
    kernel = hmm.build_kernel([log], 6, toolbox.settings())
    params = toolbox.random_params(rng, "plain", kernel)
    params.mix[:], params.stop[:] = 1.0, 0.0
    events, _ = hmm.sample_users(jax.random.key(0), params, 100_000, max_len=3)
    items = np.asarray(events.items)
    checked = 0
    for one in range(6):
        for two in range(6):
            third = items[(items[:, 0] == one) & (items[:, 1] == two), 2]
            given = toolbox.kernel_given(kernel, [one, two])
            if given is not None and third.size > 1000:
                seen = np.bincount(third, minlength=6)
                assert toolbox.chi_square(seen, third.size * given) < toolbox.chi_limit(6)
                checked += 1
    assert checked > 8


def test_states_actions_and_gaps_follow_the_model(toolbox, extreme):
    events, states = hmm.sample_users(jax.random.key(2), extreme, 60_000, max_len=12)
    states, real = np.asarray(states), np.asarray(states) >= 0
    assert (real.sum(1) == np.asarray(events.lengths)).all()
    assert (np.asarray(events.gaps)[:, 0] == 0).all()
    seen = np.bincount(states[:, 0], minlength=3)
    assert toolbox.chi_square(seen, 60_000 * extreme.start[0]) < toolbox.chi_limit(2)
    later = real.copy()
    later[:, 0] = False
    moves = np.zeros((3, 4))
    np.add.at(moves, (states[:, :-1][real[:, :-1]], states[:, 1:][real[:, :-1]]), 1)
    gap = extreme.gap.copy()
    gap[:, 0] = 0  # the bin of first events
    for state in range(3):
        row = np.append((1 - extreme.stop[state]) * extreme.transition[state], extreme.stop[state])
        assert toolbox.chi_square(moves[state], moves[state].sum() * row) < toolbox.chi_limit(3)
        actions = np.asarray(events.actions)[real & (states == state)]
        seen = np.bincount(actions, minlength=2)
        assert toolbox.chi_square(seen, actions.size * extreme.action[state]) < toolbox.chi_limit(1)
        gaps = np.asarray(events.gaps)[later & (states == state)]
        seen = np.bincount(gaps, minlength=4)
        assert toolbox.chi_square(
            seen, gaps.size * gap[state] / gap[state].sum()
        ) < toolbox.chi_limit(2)


def test_tail_items_are_drawn_at_their_rate(toolbox):
    """12,000 items, half of them with p = 1e-3 / V; each group of tail cells within 5 %."""
    num_items, num_rows = 12_000, 1_000_000
    share = 1.0 / np.arange(1, num_items + 1)
    tail = np.arange(num_items) % 2 == 1
    share[tail] = 0
    share *= (1 - 1e-3 * tail.mean()) / share.sum()
    share[tail] = 1e-3 / num_items
    params = hmm.HmmParams(
        start=np.ones((1, 1), np.float32),
        transition=np.ones((1, 1), np.float32),
        stop=np.zeros(1, np.float32),
        action=np.ones((1, 1), np.float32),
        gap=np.ones((1, 1), np.float32),
        mix=np.zeros(1, np.float32),
        items=hmm.PlainItems(share[:, None].astype(np.float32)),
    )
    tables, seen = hmm.make_tables(params), np.zeros(num_items)
    for batch in range(10):
        rows = jnp.arange(num_rows // 10) + batch * num_rows // 10
        events, _ = hmm.draw_users(jax.random.key(0), tables, rows, max_len=16)
        seen += np.bincount(np.asarray(events.items).reshape(-1), minlength=num_items)
    total = 16 * num_rows
    assert seen.sum() == total
    expected = total * share
    # 8,000 tail draws expected: standard deviation 1.1 %, so 5 % has 1e-5 false alarms.
    assert abs(seen[tail].sum() / expected[tail].sum() - 1) < 0.05
    head = ~tail
    assert toolbox.chi_square(seen[head], expected[head]) < toolbox.chi_limit(head.sum() - 1)
    cells = seen[tail]  # each expects 1.33 draws: Poisson, so variance equals mean
    assert abs(cells.var() / cells.mean() - 1) < 0.1


def test_rows_do_not_depend_on_batch_split_or_max_len(extreme):
    key = jax.random.key(5)
    whole, states = hmm.sample_users(key, extreme, 64, max_len=9)
    part, part_states = hmm.sample_users(key, extreme, 16, max_len=5, first_row=32)
    np.testing.assert_array_equal(np.minimum(whole.lengths, 5)[32:48], part.lengths)
    for name in ("items", "actions", "gaps"):
        expected = np.asarray(getattr(whole, name))[32:48, :5]
        np.testing.assert_array_equal(expected, getattr(part, name))
    np.testing.assert_array_equal(states[32:48, :5], part_states)
    other, _ = hmm.sample_users(jax.random.key(6), extreme, 64, max_len=9)
    assert not np.array_equal(whole.items, other.items)


@pytest.mark.parametrize("no_repeats", [False, True])
def test_rows_are_equal_on_one_and_on_eight_devices(extreme, no_repeats):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = jnp.arange(64, dtype=jnp.int32)
    sharded = jax.device_put(rows, NamedSharding(mesh, PartitionSpec("data")))
    tables = hmm.make_tables(extreme)
    everywhere = jax.device_put(tables, NamedSharding(mesh, PartitionSpec()))
    options = {"max_len": 9, "no_repeats": no_repeats}
    one = hmm.draw_users(jax.random.key(0), tables, rows, **options)
    eight = hmm.draw_users(jax.random.key(0), everywhere, sharded, **options)
    assert len(eight[1].sharding.device_set) == 8
    jax.tree.map(np.testing.assert_array_equal, one, eight)


@pytest.mark.parametrize("no_repeats", [False, True])
def test_blocks_of_rows_draw_what_one_block_draws(extreme, no_repeats, monkeypatch):
    options = {"max_len": 19, "no_repeats": no_repeats}
    whole, states = hmm.sample_users(jax.random.key(4), extreme, 200, **options)
    monkeypatch.setattr(item_draws, "_BLOCK_ROWS", 48)
    jax.clear_caches()  # the block size is read while tracing
    blocks, block_states = hmm.sample_users(jax.random.key(4), extreme, 200, **options)
    jax.clear_caches()
    jax.tree.map(np.testing.assert_array_equal, (whole, states), (blocks, block_states))


def test_spread_rows_need_no_communication(extreme):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    tables, rows = hmm.make_tables(extreme), jnp.arange(64, dtype=jnp.int32)
    draw = functools.partial(hmm.draw_users, max_len=9, no_repeats=True)
    spread = hmm.spread_rows(mesh, draw)
    text = spread.lower(jax.random.key(0), tables, rows).compile().as_text()
    assert not re.search("all-gather|all-reduce|all-to-all|collective-permute", text)
    jax.tree.map(
        np.testing.assert_array_equal,
        spread(jax.random.key(0), tables, rows),
        draw(jax.random.key(0), tables, rows),
    )


def test_no_repeats_holds_and_ends_when_all_is_seen(extreme):
    events, states = hmm.sample_users(jax.random.key(0), extreme, 2000, max_len=12, no_repeats=True)
    lengths = np.asarray(events.lengths)
    assert lengths.max() <= 6 and lengths.min() >= 1  # six items in all
    for row, length in zip(np.asarray(events.items), lengths, strict=True):
        assert len(set(row[:length].tolist())) == length
    np.testing.assert_array_equal((np.asarray(states) >= 0).sum(1), lengths)


def test_no_repeats_draws_follow_the_remaining_items(toolbox, extreme):
    events, _ = hmm.sample_users(jax.random.key(3), extreme, 60_000, max_len=2, no_repeats=True)
    items, lengths = np.asarray(events.items), np.asarray(events.lengths)
    for first in range(6):
        here = items[(items[:, 0] == first) & (lengths == 2), 1]
        state = extreme.start[0] * toolbox.item_given(extreme, [])[:, first] * (1 - extreme.stop)
        state = state / state.sum() @ extreme.transition
        item = toolbox.item_given(extreme, [first])
        item[:, first] = 0
        # The state is drawn first, then an item that is new: each state's rest sums to 1.
        expected = state @ (item / item.sum(1, keepdims=True))
        assert toolbox.chi_square(
            np.bincount(here, minlength=6), here.size * expected
        ) < toolbox.chi_limit(5)


def test_continuations_follow_the_posterior(toolbox, extreme):
    """First new item, and length, of a continued user against all state paths."""
    one = toolbox.random_events(np.random.default_rng(8), [3], 4)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 50_000, axis=0), one)
    events = hmm.sample_continuations(jax.random.key(0), extreme, many, max_new=15)
    items, lengths = np.asarray(events.items), np.asarray(events.lengths)
    assert items.shape == (50_000, 19) and lengths.min() == 4
    np.testing.assert_array_equal(items[:, :3], many.items[:, :3])
    expected = np.asarray(hmm.next_item_distribution(extreme, one))[0]
    assert toolbox.chi_square(
        np.bincount(items[:, 3], minlength=6), 50_000 * expected
    ) < toolbox.chi_limit(5)
    paths, joint = toolbox.all_paths(extreme, *toolbox.users(one)[0])
    last = np.zeros(3)
    for path, weight in zip(paths, joint, strict=True):
        last[path[-1]] += weight / extreme.stop[path[-1]]
    state = (last * (1 - extreme.stop)) @ extreme.transition
    state /= state.sum()
    ends, alive = [], state
    for _ in range(4):
        ends.append(alive @ extreme.stop)
        alive = (alive * (1 - extreme.stop)) @ extreme.transition
    seen = np.bincount(np.minimum(lengths - 4, 4), minlength=5)
    share = np.append(ends, 1 - sum(ends))
    assert toolbox.chi_square(seen, 50_000 * share) < toolbox.chi_limit(4)


def test_continuations_of_training_users_leave_their_own_counts_out(toolbox):
    """States are drawn from the posterior that does not take the kernel for a prophet."""
    rng = np.random.default_rng(4)
    log = toolbox.random_events(rng, [5, 4, 5, 3], 5)
    kernel = hmm.build_kernel([log], 6, toolbox.settings())
    params = toolbox.random_params(rng, "plain", kernel)
    params.mix[:] = 0.02, 0.5, 0.98  # so that it matters which state it is
    params.transition[:] = 0.9 * np.eye(3) + 0.1 / 3
    one = jax.tree.map(lambda leaf: leaf[:1], log)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 50_000, axis=0), one)
    expected = {
        leave_out: np.asarray(hmm.next_item_distribution(params, one, leave_out=leave_out))[0]
        for leave_out in (False, True)
    }
    drawn = hmm.sample_continuations(jax.random.key(0), params, many, max_new=1, leave_out=True)
    seen = np.bincount(np.asarray(drawn.items)[:, 5], minlength=6)
    assert toolbox.chi_square(seen, 50_000 * expected[True]) < toolbox.chi_limit(5)
    assert toolbox.chi_square(seen, 50_000 * expected[False]) > 2 * toolbox.chi_limit(5)


def test_continuations_keep_padding_rows_empty_and_rows_apart(toolbox, extreme):
    rng = np.random.default_rng(8)
    events = toolbox.random_events(rng, [3, 0, 1, 4], 4)
    key = jax.random.key(0)
    whole = hmm.sample_continuations(key, extreme, events, max_new=5)
    assert int(whole.lengths[1]) == 0 and (np.asarray(whole.items)[1] == 0).all()
    part = hmm.sample_continuations(
        key, extreme, jax.tree.map(lambda leaf: leaf[2:], events), max_new=5, first_row=2
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:], b), whole, part)
    real = np.arange(9)[None, :] < np.asarray(whole.lengths)[:, None]
    assert (np.asarray(whole.gaps)[:, 1:][real[:, 1:]] > 0).all()


def test_continuations_without_repeats_bring_new_items_only(toolbox, extreme):
    events = toolbox.random_events(np.random.default_rng(8), [3] * 500, 3)
    drawn = hmm.sample_continuations(jax.random.key(0), extreme, events, max_new=8, no_repeats=True)
    for row, length in zip(np.asarray(drawn.items), np.asarray(drawn.lengths), strict=True):
        new = row[3:length].tolist()
        assert len(set(new)) == len(new) and not set(new) & set(row[:3].tolist())


def test_second_draw_of_a_shape_does_not_compile(extreme, traced_once):
    tables = hmm.make_tables(extreme)
    hmm.sample_users(jax.random.key(0), tables, 64, max_len=9)
    growth = traced_once(
        sampling.draw_users,
        lambda: hmm.sample_users(jax.random.key(1), tables, 64, max_len=9, first_row=8),
    )
    assert growth == 0


def test_sizes_below_one_are_refused(toolbox, extreme):
    with pytest.raises(ValueError, match="num_rows = 0"):
        hmm.sample_users(jax.random.key(0), extreme, 0, max_len=5)
    events = toolbox.random_events(np.random.default_rng(8), [3], 3)
    with pytest.raises(ValueError, match="max_new = 0"):
        hmm.sample_continuations(jax.random.key(0), extreme, events, max_new=0)
    events.items[0, 1] = 6
    with pytest.raises(ValueError, match=r"items\[0, 1\] = 6"):
        hmm.sample_continuations(jax.random.key(0), extreme, events, max_new=1)
