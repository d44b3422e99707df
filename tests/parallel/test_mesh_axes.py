"""The real tasks on meshes of several axes: the same losses, and state that is really cut."""

import functools
import json
import os
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from example_records import make_records
from rich.console import Console
from tiny_training import (
    ENCODER,
    ENCODER_TASKS,
    OPTIMIZER,
    TABLE,
    TASKS,
    batches_of,
    one_device,
    train_steps,
)

from recjax import interrupts
from recjax.checkpoints import abstract
from recjax.data.loading import evaluation_batches
from recjax.data.record_sources import ListSource
from recjax.errors import Interrupted
from recjax.judging import Ranker, ndcg_validator
from recjax.logs import Progress
from recjax.optim import make_optimizer
from recjax.parallel import make_engine
from recjax.step import create_state, make_train_step
from recjax.train import LoopConfig, Training, load_best, read_summary, train
from recjax.workdir import Workdir

MESHES = ({"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8})
# The quick suite takes one task, on the mesh that has all three axes; compiles are all its cost.
QUICK_AND_SLOW = [
    (task, axes)
    if task == "next_item" and len(axes) == 3
    else pytest.param(task, axes, marks=pytest.mark.slow)
    for task in TASKS
    for axes in MESHES
]
ROWS = ENCODER.table_rows


@functools.cache
def on_one_device(name):
    return train_steps(one_device(), name, 4)[0]


def tables(state):
    """The item table, its best, and both moments."""
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    found = [leaf for path, leaf in paths if "['item']['table']" in jax.tree_util.keystr(path)]
    assert len(found) == 4
    return found


def part_shapes(leaves):
    return {leaf.addressable_shards[0].data.shape for leaf in leaves}


@pytest.mark.parametrize(("name", "axes"), QUICK_AND_SLOW, ids=str)
def test_losses_agree_with_one_device_and_tables_are_cut(name, axes):
    losses, state = train_steps(make_engine("jit", axes), name, 4)
    np.testing.assert_allclose(losses, on_one_device(name), rtol=1e-5, atol=1e-5)
    parts = 8 // axes.get("data", 1)
    assert part_shapes(tables(state)) == {(2, ROWS // parts, 16)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODER_TASKS)
def test_other_encoders_train_alike_on_one_device_and_on_eight(name):
    losses, state = train_steps(make_engine("jit", MESHES[1]), name, 4)
    assert np.isfinite(losses).all() and (losses[0] != losses[-1]).all()
    np.testing.assert_allclose(losses, on_one_device(name), rtol=1e-5, atol=1e-5)
    layer = state.params["encoder"]["layers_0"]
    names = {"hstu": "gate_value_query_key", "gru": "input"}
    cut = {"hstu": (2, 8, 4, 1, 8), "gru": (2, 8, 24)}  # over fsdp and tensor
    assert part_shapes([layer[names[name]]["kernel"]]) == {cut[name]}


def test_wide_layers_are_cut_over_tensor_and_fsdp():
    _, state = train_steps(make_engine("jit", {"data": 2, "fsdp": 2, "tensor": 2}), "next_item", 1)
    block = state.params["encoder"]["layers_0"]
    assert part_shapes([block["mlp_in"]["kernel"]]) == {(2, 8, 16)}  # embed 16 / 2, mlp 32 / 2
    assert part_shapes([block["attention"]["query_key_value"]["kernel"]]) == {(2, 8, 3, 1, 8)}
    assert part_shapes([block["mlp_in"]["bias"]]) == {(2, 32)}


@pytest.mark.slow
def test_numbers_per_row_are_cut_as_the_table_is():
    optimizer = replace(OPTIMIZER, table_optimizer="adam_rows")
    losses, state = train_steps(make_engine("jit", MESHES[1]), "click", 3, optimizer)
    alone, _ = train_steps(one_device(), "click", 3, optimizer)
    np.testing.assert_allclose(losses, alone, rtol=1e-5, atol=1e-5)
    paths = jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
    found = [leaf for path, leaf in paths if "['item']['table']" in jax.tree_util.keystr(path)]
    rows = [leaf for leaf in found if leaf.shape == (2, ROWS)]
    assert len(rows) == 2 and len(found) == 3  # second moments, counts; first moments [V, D]
    assert part_shapes(rows) == {(2, ROWS // 4)}


class Stopping:
    """Batches that send this process SIGTERM while handing out number `stop`."""

    def __init__(self, name, stop):
        self.batches, self.stop, self.count = batches_of(name), stop, 0

    def __next__(self):
        if self.count == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        self.count += 1
        return next(self.batches)

    def get_state(self):
        return self.batches.get_state()

    def set_state(self, state):
        self.batches.set_state(state)


def make_training(folder, engine, stop=-1):
    task, optimizer, constants = TASKS["next_item"], make_optimizer(OPTIMIZER), constants_of()
    logical = task.logical_axes()
    ranker = Ranker(task, engine, constants, item_chunk=16, top_n=0, mask_history=True)
    source = ListSource(make_records("next_item", 16))
    valid = list(evaluation_batches(source, batch_size=8, max_len=16, num_gap_bins=8))
    return Training(
        label="next_item",
        folder=folder,
        init_params=engine.compile_once(
            jax.vmap(lambda seed: task.init(jax.random.key(seed), {})), logical
        ),
        create=engine.compile_once(functools.partial(create_state, optimizer=optimizer), logical),
        step=engine.compile_step(make_train_step(task, optimizer, None), logical),
        start=lambda fresh: fresh,
        batches=Stopping("next_item", stop),
        constants=constants,
        evaluate=ndcg_validator(ranker, valid),
        flops=lambda batch: 0.0,
        metric_name="ndcg_at_10",
        seeds=(0, 1),
        loop=LoopConfig(6, 2, 0, 100, 1, 2, 0, False, "", 1, 0),
    )


def constants_of():
    return {"item_category": TABLE.category_id}


@pytest.mark.slow
def test_training_goes_on_on_another_mesh(tmp_path):
    progress = Progress(Workdir.open(tmp_path / "work"), Console(quiet=True))
    first, second = make_engine("jit", MESHES[1]), make_engine("jit", MESHES[2])
    train(make_training(tmp_path / "whole", first), first, progress)
    interrupts.install()
    with pytest.raises(Interrupted):
        train(make_training(tmp_path / "cut", first, stop=2), first, progress)
    interrupts.install()
    train(make_training(tmp_path / "cut", second), second, progress)
    whole, cut = (metrics_of(tmp_path / name) for name in ("whole", "cut"))
    assert whole.shape == cut.shape and np.isfinite(whole).all()
    np.testing.assert_allclose(whole, cut, rtol=1e-4, atol=1e-5)
    assert read_summary(tmp_path / "cut")["steps"] == 6
    training = make_training(tmp_path / "cut", second)
    like = abstract(training.init_params(jax.numpy.arange(2, dtype="uint32")))
    table = load_best(training.folder, like)["encoder"]["embedding"]["item"]["table"]
    assert part_shapes([table]) == {(2, ROWS // 8, 16)}


def metrics_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.array([row["train/loss"] for row in rows if "train/loss" in row])
