"""The expected item vector at every event against the distribution after every prefix."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from recjax import hmm

LENGTHS = [4, 1, 5, 0, 2]


@pytest.fixture
def events(toolbox):
    return toolbox.random_events(np.random.default_rng(5), LENGTHS, 5)


@pytest.fixture
def table():
    return np.random.default_rng(6).normal(size=(6, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnames="leave_out")
def look_ahead(params, layout, table, leave_out=False):
    return hmm.expected_next_rows(params, layout, table, leave_out=leave_out)


def after_prefixes(model, events, table, leave_out):
    """The mean rows [B, T, D] by the distribution of the next item after 1, 2, ... events."""
    rows = []
    for length in range(1, events.items.shape[1] + 1):
        prefix = dataclasses.replace(events, lengths=np.minimum(events.lengths, length))
        rows.append(hmm.next_item_distribution(model, prefix, leave_out=leave_out) @ table)
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("leave_out", [False, True])
def test_mean_rows_are_those_of_the_next_items_distribution(extreme, events, table, leave_out):
    found = look_ahead(extreme, hmm.lay_out(events), table, leave_out=leave_out)
    expected = after_prefixes(extreme, events, table, leave_out)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=2e-6)


def test_users_packed_in_a_row_do_not_see_each_other(extreme, events, table):
    alone = look_ahead(extreme, hmm.lay_out(events), table)
    (packed,) = hmm.pack_events([events], 1, sum(LENGTHS))
    together = np.asarray(look_ahead(extreme, packed, table))[0]
    expected = np.concatenate([alone[row, :length] for row, length in enumerate(LENGTHS)])
    np.testing.assert_allclose(together, expected, atol=2e-6)


def test_an_unknown_item_says_nothing(toolbox, table):
    """In a chain that forgets, what follows an unknown item is what follows the start."""
    rng = np.random.default_rng(7)
    model = toolbox.random_params(rng, "plain")
    row = rng.dirichlet(np.ones(3)).astype(np.float32)
    model = dataclasses.replace(model, start=row[None], transition=np.tile(row, (3, 1)))
    events = toolbox.random_events(rng, [2], 2)
    layout = hmm.lay_out(dataclasses.replace(events, items=np.array([[-1, 3]], np.int32)))
    found = look_ahead(model, layout, table)
    go_on = row * (1 - model.stop)
    np.testing.assert_allclose(go_on @ model.transition / go_on.sum(), row, atol=1e-6)
    expected = row @ toolbox.own_table(model) @ table
    np.testing.assert_allclose(found[0], np.stack([expected, expected]), atol=2e-6)


def test_stays_of_a_duration_are_looked_through(toolbox, events, table):
    rng = np.random.default_rng(8)
    model = toolbox.random_params(rng, "plain")
    odds = np.where(np.eye(3, dtype=bool), 0, model.transition)
    model = dataclasses.replace(
        model,
        transition=odds / odds.sum(-1, keepdims=True),
        duration=rng.dirichlet(np.ones(2), 3).astype(np.float32),
    )
    found = look_ahead(model, hmm.lay_out(events), table)
    expected = after_prefixes(model, events, table, leave_out=False)
    np.testing.assert_allclose(found[2], expected[2], atol=2e-6)
