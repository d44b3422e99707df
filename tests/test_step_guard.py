"""No host transfer in the loop, no second compile: held in real trainings, caught when planted."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from rich.console import Console
from tiny_training import OPTIMIZER, TABLE, TASKS, batches_of
from toy_training import ENGINE, ToyBatches, ToyTask, make_training

from recjax.logs import Progress
from recjax.optim import make_optimizer
from recjax.parallel import PmapEngine, make_engine, make_mesh
from recjax.step import create_state, make_train_step
from recjax.step_guard import StepGuard
from recjax.train import train, with_rows
from recjax.workdir import Workdir

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def progress(tmp_path):
    return Progress(Workdir.open(tmp_path / "work"), Console(quiet=True))


def real_training(folder, *, engine, traces):
    """A toy training with the real next-item task in it."""
    task, optimizer = TASKS["next_item"], make_optimizer(OPTIMIZER)
    step, logical = make_train_step(task, optimizer, engine.axis_name), task.logical_axes()

    def traced(state, batch, constants):
        traces.append({name: leaf.shape for name, leaf in batch.items()})
        return step(state, batch, constants)

    return dataclasses.replace(
        make_training(folder, num_steps=12),
        step=engine.compile_step(traced, logical),
        create=engine.compile_once(partial(create_state, optimizer=optimizer), logical),
        init_params=engine.compile_once(
            jax.vmap(lambda seed: task.init(jax.random.key(seed), {})), logical
        ),
        batches=batches_of("next_item"),
        constants={"item_category": TABLE.category_id},
        evaluate=lambda params: np.zeros(2),
        seeds=(0, 1),
    )


class Marked:
    """Batches that note, each time one is asked for, how much has been compiled so far."""

    def __init__(self, batches, compiled):
        self.batches, self.compiled, self.marks = batches, compiled, []
        self.get_state = batches.get_state

    def __next__(self):
        self.marks.append(len(self.compiled))
        return next(self.batches)


@pytest.mark.parametrize(
    ("make", "engine"),
    [
        (real_training, make_engine("jit", {"data": 2, "fsdp": 4})),
        (make_training, PmapEngine(make_mesh({"data": -1}))),
    ],
    ids=["jit", "pmap"],
)
def test_a_whole_training_traces_and_compiles_its_step_once(tmp_path, progress, make, engine):
    """With logs, evaluations and saves between its steps."""
    traces, compiled = [], []

    def listen(event, seconds, **facts):
        if event == COMPILED:
            compiled.append(seconds)

    training = make(tmp_path / "run", engine=engine, traces=traces)
    batches = Marked(training.batches, compiled)
    training = dataclasses.replace(training, batches=batches)
    training = dataclasses.replace(training, loop=dataclasses.replace(training.loop, num_steps=12))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(training, engine, progress)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    marks = batches.marks
    assert len(traces) == 1
    assert marks[1] > marks[0]  # the first step
    assert marks[1] == marks[4]  # steps 2 to 4; a log, a save and an evaluation follow
    assert marks[10] == marks[11] == len(compiled)  # nothing at all once each has been


def test_shapes_are_traced_once_each(tmp_path, progress):
    class TwoSizes(ToyBatches):
        def __next__(self):
            self.size = 8 * (1 + self.pointer % 2)
            return super().__next__()

    traces = []
    train(make_training(tmp_path / "run", batches=TwoSizes(), traces=traces), ENGINE, progress)
    assert [shapes["x"] for shapes in traces] == [(2, 8, 3), (2, 16, 3)]


def test_second_trace_of_a_shape_ends_the_run(tmp_path, progress):
    training = make_training(tmp_path / "run")
    step = make_train_step(ToyTask(), make_optimizer(OPTIMIZER), None)

    def fresh(*arguments):
        return ENGINE.compile_step(lambda *inner: step(*inner))(*arguments)

    with pytest.raises(RuntimeError, match="re-tracing function"):
        train(dataclasses.replace(training, step=fresh), ENGINE, progress)


@pytest.mark.parametrize(
    "leak",
    [lambda state: state.step + np.ones(3), lambda state: jax.jit(lambda x: x)(np.ones(3))],
    ids=["array", "argument"],
)
def test_implicit_transfer_in_the_step_ends_the_run(tmp_path, progress, leak):
    training = make_training(tmp_path / "run")

    def leaking(state, batch, constants):
        leak(state)
        return training.step(state, batch, constants)

    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        train(dataclasses.replace(training, step=leaking), ENGINE, progress)


def test_host_batch_handed_to_the_step_is_refused(tmp_path, progress):
    class NoPut(type(ENGINE)):
        def put_member_batch(self, batch):
            return batch

    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        train(make_training(tmp_path / "run"), NoPut(ENGINE.mesh), progress)


def test_reading_from_the_device_is_refused_in_the_step():
    """The CPU's arrays lie on the host, so that only the setting can be looked at here."""
    with StepGuard()(with_rows({"x": np.zeros((1, 2))})):
        assert jax.config.jax_transfer_guard_device_to_host == "disallow"
    assert jax.config.jax_transfer_guard_device_to_host != "disallow"
