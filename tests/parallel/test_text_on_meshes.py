"""The text objectives on meshes: losses of the whole batch's pairs, whatever the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_texts import ENCODER, TEXT, init, keys_of, make_batch, make_constants
from tiny_training import OPTIMIZER, one_device

from recjax.optim import make_optimizer
from recjax.parallel import PmapEngine, make_engine, make_mesh
from recjax.step import create_state, make_train_step
from recjax.tasks import JointItemText, MaskedItem, MaskedText, Mixture, TextAlignment
from recjax.train import with_rows

READING = (MaskedText(ENCODER, TEXT), JointItemText(ENCODER, TEXT))
ALIGNED = (*READING, TextAlignment(ENCODER, TEXT, dim=16))


def losses_of(engine, objectives):
    """Every loss [3 steps, 2 members] by name."""
    objectives = (MaskedItem(ENCODER), *objectives)
    task = Mixture(ENCODER, objectives, (1.0,) * len(objectives))
    optimizer, seeds = make_optimizer(OPTIMIZER), jnp.arange(2, dtype="uint32")
    logical = task.logical_axes()
    params = engine.compile_once(
        jax.vmap(lambda seed: task.init(jax.random.key(seed), {})), logical
    )(seeds)
    state = engine.compile_once(functools.partial(create_state, optimizer=optimizer), logical)(
        params, seeds
    )
    step = engine.compile_step(make_train_step(task, optimizer, engine.axis_name), logical)
    constants, found = engine.put_constants(make_constants()), []
    for number in range(3):
        members = [make_batch(2 * number + member, rows=16) for member in range(2)]
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *members)
        state, metrics = step(state, engine.put_member_batch(with_rows(batch)), constants)
        found.append(jax.tree.map(np.asarray, metrics))
    return {name: np.array([metrics[name] for metrics in found]) for name in found[0]}


@functools.cache
def on_one_device(objectives):
    return losses_of(one_device(), objectives)


def _agree(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(np.unique(values)) == values.size and (values > 0).all(), name
        np.testing.assert_allclose(found[name], values, rtol=2e-5, err_msg=name)


def test_pairs_of_all_devices_meet():
    task, batch, keys = ALIGNED[-1], make_batch(rows=16), keys_of(16)
    params, constants = init(task), make_constants()
    loss = jax.jit(lambda batch, keys: task.loss(params, batch, constants, keys=keys, train=True))
    whole, weight = loss(batch, keys)["text_alignment"]
    spread = make_engine("jit", {"data": 8}).put_batch(jax.tree.map(np.asarray, batch))
    assert len(spread["items"].sharding.device_set) == 8
    np.testing.assert_allclose(loss(spread, keys)["text_alignment"], (whole, weight), rtol=2e-5)
    rows = [jax.tree.map(lambda leaf, at=at: leaf[at : at + 2], batch) for at in range(0, 16, 2)]
    alone = [loss(part, keys[2 * i : 2 * i + 2])["text_alignment"] for i, part in enumerate(rows)]
    assert sum(count for _, count in alone) == weight
    assert sum(total for total, _ in alone) < 0.7 * whole  # what devices by themselves would say


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_losses_agree_with_one_device(axes):
    _agree(losses_of(make_engine("jit", axes), ALIGNED), on_one_device(ALIGNED))


@pytest.mark.slow
def test_losses_agree_by_pmap_where_rows_do_not_meet():
    found = losses_of(PmapEngine(make_mesh({"data": -1})), READING)
    _agree(found, on_one_device(READING))
