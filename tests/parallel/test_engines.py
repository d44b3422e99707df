import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from toy_training import OPTIMIZER, ToyBatches, ToyTask

from recjax.optim import make_optimizer
from recjax.parallel import JitEngine, PmapEngine, make_engine, make_mesh
from recjax.step import create_state, make_train_step
from recjax.train import with_rows


def run_steps(engine, num_steps=20):
    task, optimizer, seeds = ToyTask(), make_optimizer(OPTIMIZER), jnp.asarray([3, 4], jnp.uint32)
    init = jax.vmap(lambda seed: task.init(jax.random.key(seed), {"x": jnp.zeros((1, 3))}))
    state = engine.compile_once(lambda: create_state(init(seeds), seeds, optimizer=optimizer))()
    step = engine.compile_step(make_train_step(task, optimizer, engine.axis_name))
    batches, losses = ToyBatches(), []
    for _ in range(num_steps):
        batch = engine.put_member_batch(with_rows(next(batches)))
        state, metrics = step(state, batch, {})
        losses.append(np.asarray(metrics["train/loss"]))
    return np.array(losses), np.asarray(state.params["kernel"])


def one_device_engine():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return JitEngine(mesh)


@pytest.mark.parametrize("other", [one_device_engine, lambda: PmapEngine(make_mesh({"data": -1}))])
def test_losses_agree_over_engines_and_device_counts(other):
    assert jax.device_count() == 8
    losses, params = run_steps(make_engine("jit", {"data": -1}))
    other_losses, other_params = run_steps(other())
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(params, other_params, rtol=1e-5, atol=1e-6)


def test_rows_function_agrees_over_engines():
    def function(params, batch, constants):
        return params[:, None] * batch["x"][None] + constants["shift"]

    outs = []
    for name in ("jit", "pmap"):
        engine = make_engine(name, {"data": -1})
        batch = engine.put_batch({"x": np.arange(16.0)})
        run = engine.compile_rows(function)
        constants = {"shift": jnp.ones((1, 1))}
        outs.append(np.asarray(run(jnp.array([1.0, 2.0]), batch, constants)))
    np.testing.assert_array_equal(outs[0], outs[1])
    assert outs[0].shape == (2, 16)


def test_step_is_traced_once():
    traces = []

    class Counting(ToyTask):
        def loss(self, *args, **kwargs):
            traces.append(1)
            return super().loss(*args, **kwargs)

    engine, optimizer = make_engine("jit", {"data": -1}), make_optimizer(OPTIMIZER)
    seeds = jnp.asarray([3, 4], jnp.uint32)
    params = {"kernel": jnp.zeros((2, 3))}
    state = engine.compile_once(lambda: create_state(params, seeds, optimizer=optimizer))()
    step, batches = engine.compile_step(make_train_step(Counting(), optimizer, None)), ToyBatches()
    for _ in range(3):
        state, _ = step(state, engine.put_member_batch(with_rows(next(batches))), {})
    assert len(traces) == 1


def test_rows_that_do_not_divide_are_refused_with_a_size_that_does():
    with pytest.raises(ValueError, match="batch_size = 12 does not divide over 8 devices.*16 does"):
        make_engine("jit", {"data": -1}).check_rows(12)


@pytest.mark.parametrize(
    ("axes", "message"),
    [({"data": 3}, "asks for 3 devices, there are 8"), ({"data": -1, "tensor": -1}, "only one")],
)
def test_mesh_that_does_not_fit_is_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(axes)


def test_pmap_refuses_other_axes():
    with pytest.raises(ValueError, match="data axis only"):
        make_engine("pmap", {"data": 4, "tensor": 2})


def test_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="known: jit, pmap"):
        make_engine("xmap", {"data": -1})
