"""Tables cut by items and users by rows over 8 devices: the same model, and no table travels."""

import math
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recjax import hmm
from recjax.hmm.counts import estimate, make_prior, zero_counts
from recjax.hmm.expectation import RowPlan, add_counts, plan_rows

FAMILIES = ("plain", "category", "plain+kernel", "content")


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def _events(num_users, num_items):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, num_items, (num_users, 12)).astype(np.int32)
    lengths = rng.integers(1, 13, num_users).astype(np.int32)
    return hmm.Events(grid, grid % 2, 1 + grid % 3, lengths)


def _start(name, toolbox, events, num_items, num_states=4):
    settings = toolbox.settings(num_states=num_states, num_iterations=2, kernel_neighbours=16)
    kernel = hmm.build_kernel([events], num_items, settings) if "kernel" in name else None
    category = np.arange(num_items) % 7 if name == "category" else None
    features = np.random.default_rng(1).normal(size=(num_items, 2)) if name == "content" else None
    sizes = hmm.HmmSizes(num_items, 2, 4)
    start = hmm.initial_params(
        jax.random.key(0),
        sizes,
        settings,
        kernel=kernel,
        item_category=category,
        item_features=features,
    )
    return start, sizes, settings


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("fit", [hmm.fit_baum_welch, hmm.fit_stepwise])
def test_eight_devices_fit_the_model_of_one(toolbox, mesh, name, fit):
    events = _events(160, 20)
    start, sizes, settings = _start(name, toolbox, events, 20)
    placed = hmm.place_tables(start, mesh)
    arguments = (jax.random.key(0), lambda: [events], sizes, settings)
    one, rows = fit(*arguments, initial=start)
    eight, rows_of_eight = fit(*arguments, initial=placed, place=hmm.row_placer(mesh))
    # Content ends where another Newton step shows no gain in float32: a matter of rounding.
    atol = 1e-3 if name == "content" else 1e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, eight)
    np.testing.assert_allclose(
        [list(row.values()) for row in rows],
        [list(row.values()) for row in rows_of_eight],
        rtol=1e-5,
    )
    expected = hmm.table_shardings(eight, mesh)
    same = jax.tree.map(
        lambda leaf, sharding: leaf.sharding.is_equivalent_to(sharding, leaf.ndim), eight, expected
    )
    assert all(jax.tree.leaves(same)), same


def _gathered(compiled):
    """Elements of every array that a compiled program gathers from several devices."""
    shapes = []
    for line in compiled.as_text().splitlines():
        found = re.search(r"= (.*?) all-gather(-start)?\(", line)
        if found:
            for sizes in re.findall(r"\[([\d,]*)\]", found.group(1)):
                shapes.append(math.prod(int(size) for size in sizes.split(",") if size))
    return shapes


@pytest.mark.parametrize("name", FAMILIES)
def test_no_table_is_gathered(toolbox, mesh, name):
    """Nor are the events: no array of as many elements as there are items or events."""
    num_items, num_users = 1024, 128
    events = _events(num_users, num_items)
    params = hmm.place_tables(_start(name, toolbox, events, num_items)[0], mesh)
    layout = hmm.row_placer(mesh)(hmm.lay_out(events))
    counts = zero_counts(params)
    expected = hmm.table_shardings(counts, mesh)
    for table, sharding in zip(
        jax.tree.leaves(counts.items), jax.tree.leaves(expected.items), strict=True
    ):
        assert table.sharding.is_equivalent_to(sharding, table.ndim)
    prior = make_prior(params, 0.1, np.ones(num_items))
    for compiled in (
        add_counts.lower(counts, params, layout, plan=plan_rows(layout)).compile(),
        estimate.lower(params, counts, prior).compile(),
    ):
        assert max(_gathered(compiled), default=0) < min(num_items, num_users * 12)


def test_rows_on_several_devices_talk_once_a_batch_not_once_an_event(toolbox):
    """All sums over rows are made after the loops over time."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = hmm.place_tables(
        _start("plain+kernel", toolbox, _events(64, 32), 32)[0], mesh, item_axis=None
    )
    layout = hmm.row_placer(mesh)(hmm.lay_out(_events(64, 32)))
    assert plan_rows(layout) == RowPlan(parts=8, blocks=1)
    for blocks in (1, 4):
        plan = RowPlan(8, blocks)
        text = add_counts.lower(zero_counts(params), params, layout, plan=plan).compile().as_text()
        in_loops = [line for line in text.splitlines() if "while/body" in line]
        talks = [line for line in in_loops if re.search(r" all-(reduce|gather|to-all)", line)]
        assert in_loops
        if blocks == 1:
            assert not talks, talks


def test_a_gathered_table_is_noticed(mesh):
    table = jax.device_put(
        np.zeros((1024, 4), np.float32), NamedSharding(mesh, PartitionSpec("model"))
    )
    copied = jax.jit(lambda table: table + 1, out_shardings=NamedSharding(mesh, PartitionSpec()))
    assert max(_gathered(copied.lower(table).compile())) == 4096


def test_bad_arguments_are_named(toolbox, mesh):
    events = _events(8, 21)
    start, _, _ = _start("plain", toolbox, events, 21)
    with pytest.raises(ValueError, match="items.table has 21 items: expected a multiple of the 2"):
        hmm.place_tables(start, mesh)
    with pytest.raises(ValueError, match="mesh axis 'expert' is unknown"):
        hmm.table_shardings(start, mesh, item_axis="expert")
    with pytest.raises(ValueError, match="mesh axis 'row' is unknown"):
        hmm.row_placer(mesh, data_axes=("row",))
    with pytest.raises(ValueError, match="a packed batch has 6 rows: expected a multiple of the 4"):
        hmm.row_placer(mesh)(hmm.lay_out(jax.tree.map(lambda leaf: leaf[:6], events)))
    copied = hmm.place_tables(start, mesh, item_axis=None)
    assert copied.items.table.sharding.is_fully_replicated
