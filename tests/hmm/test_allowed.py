"""Draws from a set of allowed items: the model, restricted and scaled up.

Chi-square limits are set for about 1e-4 false alarms over all seeds.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import hmm

ALLOWED = np.array([True, False, True, True, False, True])


def _restricted(toolbox, params, temperature=1.0):
    """The model with the mass of the other items spread over the allowed ones, built directly."""
    own = toolbox.own_table(params) * ALLOWED
    if temperature != 1.0:
        own = own ** (1 / temperature)
    table = (own / own.sum(1, keepdims=True)).T
    kernel = params.kernel
    if kernel is not None:
        kept = np.append(ALLOWED, False)[kernel.neighbours]
        kernel = dataclasses.replace(kernel, counts=kernel.counts * kept)
    return dataclasses.replace(params, items=hmm.PlainItems(table), kernel=kernel)


def test_users_follow_the_restricted_model(toolbox, model):
    events, _ = hmm.sample_users(jax.random.key(0), model, 60_000, max_len=9, allowed=ALLOWED)
    expected = toolbox.short_users(_restricted(toolbox, model), 60_000)
    assert toolbox.chi_square(toolbox.count_short(events), expected) < toolbox.chi_limit(42)
    real = np.arange(9)[None, :] < np.asarray(events.lengths)[:, None]
    assert ALLOWED[np.asarray(events.items)[real]].all()


def test_restriction_follows_the_temperature(toolbox):
    params = toolbox.random_params(np.random.default_rng(3), "plain")
    events, _ = hmm.sample_users(
        jax.random.key(0), params, 60_000, max_len=9, allowed=ALLOWED, temperature=0.5
    )
    expected = toolbox.short_users(_restricted(toolbox, params, 0.5), 60_000)
    assert toolbox.chi_square(toolbox.count_short(events), expected) < toolbox.chi_limit(42)


def test_continuations_bring_allowed_items_after_any_history(toolbox, extreme):
    one = toolbox.random_events(np.random.default_rng(8), [3], 4)
    many = jax.tree.map(lambda leaf: np.repeat(leaf, 50_000, axis=0), one)
    events = hmm.sample_continuations(jax.random.key(0), extreme, many, max_new=15, allowed=ALLOWED)
    seen = np.bincount(np.asarray(events.items)[:, 3], minlength=6)
    # The state is that of the whole model: the history holds items that may not be drawn now.
    state = _next_state(toolbox, extreme, one)
    given = toolbox.item_given(_restricted(toolbox, extreme), list(one.items[0, :3]))
    assert not ALLOWED[one.items[0, :3]].all()
    assert toolbox.chi_square(seen, 50_000 * state @ given) < toolbox.chi_limit(5)


def _next_state(toolbox, params, one):
    paths, joint = toolbox.all_paths(params, *toolbox.users(one)[0])
    last = np.zeros(3)
    for path, weight in zip(paths, joint, strict=True):
        last[path[-1]] += weight / params.stop[path[-1]]
    state = (last * (1 - params.stop)) @ params.transition
    return state / state.sum()


def test_no_repeats_end_when_the_allowed_items_are_used_up(extreme):
    events, _ = hmm.sample_users(
        jax.random.key(0), extreme, 2000, max_len=9, allowed=ALLOWED, no_repeats=True
    )
    lengths = np.asarray(events.lengths)
    assert lengths.max() == 4
    for row, length in zip(np.asarray(events.items), lengths, strict=True):
        assert len(set(row[:length])) == length and ALLOWED[row[:length]].all()


def test_no_word_meets_a_neighbour_that_is_not_allowed(toolbox):
    log = toolbox.random_events(np.random.default_rng(0), [6] * 5, 6)
    kernel = hmm.build_kernel([log], 6, toolbox.settings(kernel_neighbours=5))
    params = toolbox.random_params(np.random.default_rng(0), "plain", kernel)
    tables = hmm.make_tables(params, allowed=ALLOWED).kernel
    words = np.concatenate([np.arange(0, 2**32, 2**22), [2**32 - 1]]).astype(np.uint32)
    rows, words = np.meshgrid(np.flatnonzero(tables.usable).astype(np.int32), words)
    drawn = tables.draw(jnp.asarray(rows.ravel()), jnp.asarray(words.ravel()))
    assert rows.size and ALLOWED[np.asarray(drawn)].all()


def test_a_state_without_allowed_items_is_named(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    params.items.table[:, 1] = [0, 0.5, 0, 0, 0.5, 0]
    with pytest.raises(ValueError, match="allowed: state 1 "):
        hmm.make_tables(params, allowed=ALLOWED)
    params = toolbox.random_params(np.random.default_rng(0), "category")
    params.items.category[2] = [0, 0, 1]  # item 3 alone
    with pytest.raises(ValueError, match="allowed: state 2 "):
        hmm.make_tables(params, allowed=np.arange(6) != 3)


def test_a_set_of_another_kind_is_refused(toolbox):
    params = toolbox.random_params(np.random.default_rng(0), "plain")
    with pytest.raises(ValueError, match=r"allowed is bool \(5,\): expected bool \(6,\)"):
        hmm.make_tables(params, allowed=ALLOWED[:5])
    with pytest.raises(ValueError, match="allowed is int64"):
        hmm.make_tables(params, allowed=ALLOWED.astype(np.int64))
    with pytest.raises(ValueError, match="make_tables"):
        hmm.sample_users(jax.random.key(0), hmm.make_tables(params), 1, max_len=2, allowed=ALLOWED)
