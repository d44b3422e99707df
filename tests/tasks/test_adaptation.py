"""Few new parameters learn: exactly those, from the pretrained function on, and resumable."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from small_params import flat, moved
from tiny_training import ENCODER, TABLE, batches_of, one_device

from configs import default
from recjax.checkpoints import Checkpoints, abstract
from recjax.errors import UserError
from recjax.parallel import make_engine
from recjax.recipe import make_adaptation, make_recipe
from recjax.tasks import Adaptation, NextItem, transfer
from recjax.train import with_rows

METHODS = ("lora", "adapter", "prefix")
_ONE_QUICKLY = ["lora", *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[1:])]
SMALL = {"rank": 2, "dim": 3, "length": 2}
PLAIN = NextItem(replace(ENCODER, num_layers=2))
CONSTANTS = {"item_category": jnp.asarray(TABLE.category_id)}
SEEDS = jnp.arange(2, dtype="uint32")


def adapted(method, **settings):
    return replace(PLAIN, adapt=Adaptation(method, **(SMALL | settings)))


def params_of(task, noise=0.0):
    """A task's parameters over the same pretrained encoder; noise spoils the new ones' start."""
    params = transfer(PLAIN.init(jax.random.key(1)), task.init(jax.random.key(2)))
    if "adapt" in params:
        params["adapt"] = jax.tree.map(lambda leaf: leaf + noise, params["adapt"])
    return params


def encode(task, params):
    batch = {name: jnp.asarray(value[0]) for name, value in next(batches_of("next_item")).items()}
    run = jax.jit(lambda params: task.encode(params, batch, CONSTANTS, causal=True))
    return np.asarray(run(params))


@pytest.fixture(scope="module")
def pretrained():
    return encode(PLAIN, params_of(PLAIN))


@pytest.mark.parametrize("method", METHODS)
def test_adapted_task_starts_as_the_pretrained_one_and_can_leave_it(method, pretrained):
    task = adapted(method)
    np.testing.assert_array_equal(encode(task, params_of(task)), pretrained)
    assert np.all(np.any(encode(task, params_of(task, noise=0.3)) != pretrained, axis=-1))
    base, specs = params_of(PLAIN), task.logical_axes()
    assert jax.tree.structure(task.init(jax.random.key(0))["encoder"]) == jax.tree.structure(
        base["encoder"]
    )
    assert len(jax.tree.leaves(specs, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))) == len(
        flat(params_of(task))
    )


def test_merged_low_rank_pairs_are_kernels_of_the_plain_task():
    task = adapted("lora")
    params = params_of(task, noise=0.1)
    merged = {"encoder": task.encoder_params(params), "head": params["head"]}
    np.testing.assert_allclose(encode(PLAIN, merged), encode(task, params), rtol=1e-5, atol=1e-5)
    changed = moved(merged["encoder"], params["encoder"])
    assert changed == {
        f"layers_{layer}/attention/{name}/kernel"
        for layer in (0, 1)
        for name in ("query_key_value", "output")
    }


def test_pairs_are_products_of_matrices():
    task = adapted("lora", alpha=6.0, targets=(".*kernel",))
    params = params_of(task, noise=0.1)
    before, after = params["encoder"]["layers_1"], task.encoder_params(params)["layers_1"]
    pairs = params["adapt"]["layers_1"]

    def gained(*path):
        kernels = [tree for tree in (after, before)]
        for name in path:
            kernels = [tree[name] for tree in kernels]
        return np.asarray(kernels[0]["kernel"] - kernels[1]["kernel"])

    pair = pairs["mlp_in"]["kernel"]
    np.testing.assert_allclose(gained("mlp_in"), 3 * pair["a"] @ pair["b"], atol=1e-5)
    pair = pairs["attention"]["query_key_value"]["kernel"]
    gain = gained("attention", "query_key_value")
    for part in range(3):  # query, key and value have a pair each
        product = 3 * pair["a"][part] @ pair["b"][part]
        np.testing.assert_allclose(gain[:, part].reshape(16, 16), product, atol=1e-5)
    pair = pairs["attention"]["output"]["kernel"]
    product = (3 * pair["a"] @ pair["b"]).reshape(2, 8, 16)
    np.testing.assert_allclose(gained("attention", "output"), product, atol=1e-5)


def settings_for(method, **changes):
    settings = default.get_config().finetune.next_item
    settings.update(warmup_steps=0, schedule="constant", **changes)
    settings.adapt.update(method=method, **SMALL)
    return settings


def run(settings, num_steps=3, task=None, engine=None):
    """States before and after a few steps, made as a fine-tuning makes them."""
    task = task or replace(PLAIN, adapt=make_adaptation(settings.adapt))
    engine, recipe = engine or one_device(), make_recipe(task, settings, None)
    params = jax.vmap(lambda _: params_of(task))(SEEDS)
    start = engine.compile_once(recipe.create, recipe.logical)(params, SEEDS)
    before = jax.tree.map(np.asarray, start.params)
    step, state = engine.compile_step(recipe.step, recipe.logical), start
    constants, batches = engine.put_constants(dict(CONSTANTS)), batches_of("next_item")
    for _ in range(num_steps):
        state, _ = step(state, engine.put_member_batch(with_rows(next(batches))), constants)
    return before, state


def assert_only(prefixes, before, state):
    """Exactly the parameters under these prefixes moved, and only they have optimizer state."""
    expected = {name for name in flat(before) if name.startswith(prefixes)}
    assert moved(before, state.params) == expected
    kept = [name for name in flat(state.opt_state) if "encoder/" in name]
    assert all(any(prefix in name for prefix in prefixes) for name in kept)


@pytest.mark.parametrize("method", _ONE_QUICKLY)
def test_exactly_the_new_parameters_and_the_head_move(method, tmp_path):
    before, state = run(settings_for(method))
    assert_only(("adapt/", "head/"), before, state)
    checkpoints = Checkpoints(tmp_path)
    parts = {name: value for name, value in vars(state).items() if name != "best_params"}
    checkpoints.save(3, best=state.best_params, state=parts, loop={"step": 3}, metric=None)
    checkpoints.wait()
    _, best, rest, _ = checkpoints.restore(best=abstract(state.best_params), state=abstract(parts))
    checkpoints.close()
    assert jax.tree.structure((best, rest)) == jax.tree.structure((state.best_params, parts))
    assert not moved(parts, rest)


def test_exactly_what_no_rule_freezes_moves():
    settings = settings_for("none", freeze=("encoder/embedding.*", ".*_norm.*", "head/.*"))
    before, state = run(settings)
    assert_only(
        tuple(
            f"encoder/layers_{i}/{part}"
            for i in (0, 1)
            for part in ("attention/", "mlp_in", "mlp_out")
        ),
        before,
        state,
    )


@pytest.mark.slow
def test_a_mask_that_does_nothing_would_be_seen():
    task = adapted("lora")

    class Loose(NextItem):
        held = ()

    loose = Loose(PLAIN.encoder, adapt=task.adapt)
    before, state = run(settings_for("lora"), task=loose)
    with pytest.raises(AssertionError):
        assert_only(("adapt/", "head/"), before, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lorra"}, "adapt.method 'lorra' is unknown; known: none, lora"),
        ({"rank": 0}, "adapt.rank must be at least 1, got 0"),
        ({"targets": ("(",)}, "no regular expression"),
    ],
)
def test_setting_that_cannot_be_is_an_error_of_the_user(change, message):
    settings = settings_for("lora")
    settings.adapt.update(change)
    with pytest.raises(UserError, match=message):
        make_adaptation(settings.adapt)


def test_target_that_matches_no_kernel_is_refused_with_the_kernels():
    settings = settings_for("lora")
    task = adapted("lora", targets=("encoder/embedding.*",))
    with pytest.raises(UserError, match="matches no kernel; kernels are encoder/layers_0/"):
        make_recipe(task, settings, None)


@pytest.mark.parametrize(
    ("method", "key", "size"), [("lora", "rank", 3), ("adapter", "dim", 5), ("prefix", "length", 7)]
)
def test_size_of_a_method_comes_from_the_config(method, key, size):
    settings = settings_for(method)
    settings.adapt[key] = size
    task = replace(PLAIN, adapt=make_adaptation(settings.adapt))
    new = jax.eval_shape(lambda: task.init(jax.random.key(0)))["adapt"]
    shapes = {leaf.shape for leaf in jax.tree.leaves(new)}
    assert any(size in shape for shape in shapes)
    assert not any(SMALL[key] in shape[:1] + shape[-1:] for shape in shapes if len(shape) == 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_few_parameters_learn_alike_on_a_mesh(method):
    settings = settings_for(method, optimizer="sgd")
    _, alone = run(settings)
    _, together = run(settings, engine=make_engine("jit", {"data": 2, "fsdp": 2, "tensor": 2}))
    for one, other in zip(
        jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_scanned_layers_are_adapted_too(method):
    task = adapted(method)
    task = replace(task, encoder=replace(task.encoder, scan=True))
    plain = replace(PLAIN, encoder=task.encoder)
    params = transfer(plain.init(jax.random.key(1)), task.init(jax.random.key(2)))
    start = encode(task, params)
    np.testing.assert_array_equal(start, encode(plain, {**params}))
    params["adapt"] = jax.tree.map(lambda leaf: leaf + 0.3, params["adapt"])
    assert np.any(encode(task, params) != start)
