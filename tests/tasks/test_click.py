import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.expansion.on_device import Adversary
from recjax.losses import sigmoid_cross_entropy
from recjax.tasks import Click


@pytest.fixture
def click_batch(make_batch):
    batch = make_batch([[3], [12], [], [5]])
    names = ("candidate", "candidate_gap", "hour", "weekday", "position")
    batch |= {name: jnp.arange(4) + 2 * (name == "candidate") + 1 for name in names}
    return batch | {"label": jnp.array([1.0, 0, 1, 0]), "weight": jnp.array([1.0, 2, 1, 0])}


@pytest.fixture
def click(encoder_config, constants, init):
    """A task, its parameters and its compiled scores."""
    task = Click(encoder_config, hidden_dims=(8,))
    score = jax.jit(
        lambda params, batch, fixed: task.scores(params, batch, constants, fixed_position=fixed),
        static_argnums=2,
    )
    return task, init(task), score


def test_loss_is_the_weighted_cross_entropy_of_the_scores(click, click_batch, constants):
    task, params, _ = click

    @jax.jit
    def run(params, batch):
        loss = task.loss(params, batch, constants, keys=None, train=False)["click"]
        return loss, task.scores(params, batch, constants)

    loss, scores = run(params, click_batch)
    expected = sigmoid_cross_entropy(scores, click_batch["label"], click_batch["weight"])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert scores.shape == (4,) and np.isfinite(scores).all()


def test_scores_see_history_candidate_context_and_position_but_no_padding(click, click_batch):
    _, params, score = click
    plain = score(params, click_batch, None)
    changes = {
        "items": click_batch["items"].at[:, 0].set(6),
        "candidate": click_batch["candidate"] + 5,
        "hour": click_batch["hour"] + 1,
    }
    for name, value in changes.items():
        changed = score(params, click_batch | {name: value}, None)
        assert np.abs(changed - plain)[:2].max() > 1e-5, name
    spoiled = jnp.where(click_batch["segments"] > 0, click_batch["items"], 9)
    same = score(params, click_batch | {"items": spoiled}, None)
    np.testing.assert_allclose(same, plain, atol=1e-5)

    fixed = score(params, click_batch, 0)
    moved = click_batch | {"position": jnp.full(4, 7)}
    np.testing.assert_array_equal(score(params, moved, 0), fixed)
    top = click_batch | {"position": jnp.zeros(4, jnp.int32)}
    np.testing.assert_allclose(score(params, top, None), fixed, atol=1e-6)
    assert not np.allclose(plain, fixed)


def test_causal_reading_pools_the_last_event(encoder_config, click_batch, constants, init):
    params = init(Click(encoder_config, hidden_dims=(8,)))
    scores = [
        jax.jit(Click(encoder_config, hidden_dims=(8,), causal=causal).scores)(
            params, click_batch, constants
        )
        for causal in (False, True)
    ]
    assert np.isfinite(scores[1]).all() and np.abs(scores[0] - scores[1])[:2].min() > 1e-6


def test_members_and_dropout_keys(click, click_batch, constants):
    task, params, _ = click
    params = jax.tree.map(lambda x: jnp.stack([x, x * 1.1]), params)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), click_batch)
    keys = jax.random.split(jax.random.key(1), (2, 4))

    def loss(params, batch, keys):
        return task.loss(params, batch, constants, keys=keys, train=True)["click"][0]

    together, single = jax.jit(jax.vmap(loss))(params, batch, keys), jax.jit(loss)
    one = jax.tree.map(lambda x: x[1], (params, batch, keys))
    np.testing.assert_allclose(single(*one), together[1], rtol=1e-5)
    assert abs(float(single(*one[:2], keys[0]) - together[1])) > 1e-6


def test_din_reads_the_embedded_history_and_no_block(click, click_batch, constants):
    task = dataclasses.replace(click[0], head="din")
    params = jax.jit(task.init)(jax.random.key(0))

    def loss(params):
        return task.loss(params, click_batch, constants, keys=None, train=True)["click"][0]

    grads = jax.jit(jax.grad(loss))(params)["encoder"]
    assert np.any(grads["embedding"]["item"]["table"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["layers_0"]))
    for changes, message in (
        ({"head": "dim"}, "head 'dim' is unknown; known: encoder, din, sim, dien, bst"),
        ({"head": "bst", "num_heads": 3}, "num_heads = 3 does not divide"),
        ({"search_len": 0}, "search_len of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(task, **changes)


def test_states_of_dien_learn_the_next_item_from_a_drawn_one(click, click_batch, constants):
    task = dataclasses.replace(click[0], head="dien")
    params = jax.jit(task.init)(jax.random.key(0))

    def losses(params, train=True, task=task):
        return task.loss(params, click_batch, constants, keys=None, train=train)

    plain = jax.jit(losses)(params)
    assert set(plain) == {"click", "click_interest"}
    assert float(plain["click_interest"][1]) == 2 + 2 * 11 + 0 + 0  # pairs times weights of rows
    half = dataclasses.replace(task, interest_weight=0.5)

    def others(params):
        """Without training, without weight, at half the weight, and what learns from it."""
        none = dataclasses.replace(task, interest_weight=0.0)
        grads = jax.grad(lambda p: losses(p)["click_interest"][0])(params)
        kinds = (losses(params, train=False), losses(params, task=none), losses(params, task=half))
        return *kinds, grads

    judged, none, halved, grads = jax.jit(others)(params)
    assert set(judged) == set(none) == {"click"}
    np.testing.assert_allclose(
        halved["click_interest"][0], 0.5 * plain["click_interest"][0], rtol=1e-5
    )
    assert np.any(grads["head"]["extraction_input"]["kernel"])
    assert not np.any(grads["head"]["evolution_input"]["kernel"])


def test_sim_takes_categories_from_the_catalogue(click, click_batch, constants):
    task = dataclasses.replace(click[0], head="sim", search_len=12)
    params = jax.jit(task.init)(jax.random.key(0))
    everything = {"item_category": jnp.ones_like(constants["item_category"])}
    score = jax.jit(lambda constants: task.scores(params, click_batch, constants))
    scores = [score(found) for found in (constants, everything)]
    assert np.abs(scores[0] - scores[1])[:2].max() > 1e-6


def test_adversary_adds_the_loss_of_shifted_histories(click, click_batch, constants):
    (task, params, _), keys = click, jax.random.split(jax.random.key(1), 4)

    def losses(size, train):
        changed = dataclasses.replace(task, adversary=Adversary("fgm", size=size))
        return jax.jit(
            lambda params: changed.loss(params, click_batch, constants, keys=keys, train=train)
        )(params)

    far = losses(0.02, True)
    assert far["click_adversarial"][0] > far["click"][0]
    still = losses(0.0, True)
    np.testing.assert_allclose(still["click_adversarial"], still["click"], rtol=1e-5)
    assert set(losses(0.02, False)) == {"click"}


@pytest.mark.parametrize(
    "head", ["encoder", *(pytest.param(h, marks=pytest.mark.slow) for h in ("sim", "dien", "bst"))]
)
def test_training_separates_clicked_from_unclicked(head, click, click_batch, constants):
    task, optimizer = dataclasses.replace(click[0], head=head), optax.adam(1e-2)
    params = jax.jit(task.init)(jax.random.key(0))
    state = jax.jit(optimizer.init)(params)

    def mean(params):
        total, weight = task.loss(params, click_batch, constants, keys=None, train=True)["click"]
        return total / weight

    @jax.jit
    def step(params, state):
        loss, gradient = jax.value_and_grad(mean)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    for _ in range(40):
        params, state, loss = step(params, state)
    assert loss < 0.1
