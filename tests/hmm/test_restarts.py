"""Several fits at once: each is the single fit, dead states stay dead, the best is chosen."""

import dataclasses

import jax
import numpy as np
import pytest

from recjax import hmm
from recjax.hmm.members import (
    add_member_counts,
    stack_members,
    take_member,
    zero_member_counts,
)

KEY = jax.random.key(5)
CATEGORY = np.array([0, 1, 0, 2, 1, 0])


@pytest.fixture(scope="module")
def logs(toolbox):
    """Users to fit, and held-out ones, of a model with three states."""
    events, _ = hmm.sample_users(jax.random.key(0), toolbox.separated_params(), 300, max_len=8)
    events = jax.tree.map(np.asarray, events)
    return (
        lambda: [jax.tree.map(lambda leaf: leaf[:200], events)],
        lambda: [jax.tree.map(lambda leaf: leaf[200:], events)],
    )


def _family(name, batches, settings):
    if name == "category+kernel":
        return {"kernel": hmm.build_kernel(batches(), 6, settings), "item_category": CATEGORY}
    if name == "content":
        return {"item_features": np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)}
    return {}


@pytest.mark.parametrize(
    ("family", "smoothing", "reseed_empty"),
    [
        ("plain", 0.0, True),
        ("category+kernel", 0.2, False),
        pytest.param("content", 0.1, False, marks=pytest.mark.slow),
    ],
)
def test_every_member_is_the_single_fit(toolbox, logs, family, smoothing, reseed_empty):
    batches, held_out = logs
    settings = toolbox.settings(num_iterations=4, smoothing=smoothing)
    options = {"held_out": held_out, "reseed_empty": reseed_empty}
    options |= _family(family, batches, settings)
    best, members = hmm.fit_restarts(
        KEY, batches, toolbox.sizes, settings, state_counts=(2, 4), num_restarts=2, **options
    )
    assert [(m.num_states, m.restart) for m in members] == [(2, 0), (2, 1), (4, 0), (4, 1)]
    hmm.validate_params(best)
    chosen = max(members, key=lambda member: member.held_out)
    assert best.num_states == chosen.num_states
    np.testing.assert_allclose(
        hmm.log_likelihood_per_event(best, held_out), chosen.held_out, rtol=1e-5
    )
    for index in (1, members.index(chosen)):  # 1 is padded
        own = dataclasses.replace(settings, num_states=members[index].num_states)
        single, history = hmm.fit_baum_welch(
            jax.random.fold_in(KEY, index), batches, toolbox.sizes, own, **options
        )
        found = [list(row.values()) for row in members[index].history]
        np.testing.assert_allclose(found, [list(row.values()) for row in history], atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), best, single)


def _gathers(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "gather":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _gathers(inner)


def test_kernel_is_looked_up_once_for_all_members(toolbox, logs):
    batches, _ = logs
    kernel = hmm.build_kernel(batches(), 6, toolbox.settings())
    models = [
        toolbox.random_params(np.random.default_rng(seed), "plain", kernel) for seed in range(4)
    ]
    members = stack_members(models)
    layout = hmm.lay_out(batches()[0])
    traced = jax.make_jaxpr(add_member_counts)(zero_member_counts(members), members, layout)
    lookups = [
        equation
        for equation in _gathers(traced.jaxpr)
        if equation.invars[0].aval.shape == (kernel.counts.size,)
    ]
    assert lookups and all(equation.outvars[0].aval.shape == (8, 200) for equation in lookups)


def test_padding_is_dead_and_comes_off_again(model, toolbox):
    small = model
    large = toolbox.random_params(
        np.random.default_rng(1),
        "category" if isinstance(model.items, hmm.CategoryItems) else "plain",
        model.kernel,
        num_states=5,
    )
    members = stack_members([small, large])
    padded = take_member(members, 0)
    hmm.validate_params(padded)
    assert (padded.start[:, 3:] == 0).all() and (padded.transition[:, 3:] == 0).all()
    events = toolbox.random_events(np.random.default_rng(0), [4, 1, 3], 4)
    np.testing.assert_allclose(
        hmm.log_likelihood(padded, events), hmm.log_likelihood(small, events), rtol=1e-6
    )
    jax.tree.map(np.testing.assert_array_equal, take_member(members, 0, 3), small)
    jax.tree.map(np.testing.assert_array_equal, take_member(members, 1, 5), large)
    if model.kernel is not None:
        assert members.kernel.neighbours.shape == model.kernel.neighbours.shape


def test_members_stop_one_by_one_and_keep_their_best(toolbox, logs):
    batches, held_out = logs
    settings = toolbox.settings(num_iterations=40, smoothing=0.01, tolerance=1e-3)
    best, members = hmm.fit_restarts(
        KEY, batches, toolbox.sizes, settings, held_out=held_out, state_counts=(1, 3, 6)
    )
    lengths = [len(member.history) for member in members]
    assert len(set(lengths)) > 1 and max(lengths) < 40
    assert members[0].held_out < max(member.held_out for member in members) - 0.1
    assert best.num_states > 1
    np.testing.assert_allclose(
        hmm.log_likelihood_per_event(best, held_out),
        max(member.held_out for member in members),
        rtol=1e-5,
    )


def test_bad_arguments_are_named(toolbox, logs):
    batches, held_out = logs

    def fit(held_out=held_out, **changes):
        settings = toolbox.settings(num_iterations=1)
        hmm.fit_restarts(KEY, batches, toolbox.sizes, settings, held_out=held_out, **changes)

    for changes, message in (
        ({"state_counts": ()}, "state_counts is empty"),
        ({"state_counts": (2, 0)}, r"state_counts\[1\] = 0"),
        ({"num_restarts": 0}, "num_restarts = 0"),
        ({"held_out": lambda: []}, "every held-out user is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(**changes)
