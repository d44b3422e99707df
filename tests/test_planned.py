"""What `--aot` and `--dry_run` lower has the shapes of what a run trains on."""

import jax
import pytest
from ml_collections import ConfigDict
from row_table import make_row_experiment

from configs import ctr_frappe, default, sasrec, smoke
from recjax.errors import UserError
from recjax.planned import find_sizes, lower_training, plan_trainings
from recjax.train import with_rows


@pytest.fixture
def table():
    config = default.get_config()
    config.data.kind, config.num_seeds = "table", 2
    config.prepare.features = ConfigDict({"user": {}, "words": {"kind": "tags", "max_values": 3}})
    config.finetune.tasks, config.pretrain.num_steps = ("row_click",), 0
    config.finetune.row_click.update(heads=("lr", "fm"), batch_size=16)
    config.aot.num_rows = 50
    return config


def plans_of(config, workdir="", stages=("prepare", "pretrain", "finetune", "evaluate")):
    return plan_trainings(config, find_sizes(config, str(workdir)), stages, "cpu")


def test_every_head_of_a_table_is_planned_by_the_sizes_of_the_config(table):
    first, second = plans_of(table)
    assert (first.stage, first.arms) == ("finetune/row_click/lr", ("lr",))
    assert second.stage == "finetune/row_click/fm" and first.constants == {}
    shapes = {name: leaf.shape for name, leaf in first.batch.items()}
    flat = dict.fromkeys(("label", "weight", "row"), (2, 16))
    assert shapes == {"ids": (2, 16, 4), "values": (2, 16, 4), **flat}
    assert first.task.model.num_rows == 50 and first.task.model.slots == (1, 3)
    assert plans_of(table, stages=("prepare", "evaluate")) == []


def test_step_of_a_head_is_lowered_with_its_table_cut(table):
    table.parallel.mesh = {"data": 2, "fsdp": 4, "tensor": 1}
    table.finetune.row_click.model.vocab_multiple = 8
    lowered, state = lower_training(table, plans_of(table)[0], jax.devices())
    (rows,) = (leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 3)
    assert rows.shape == (2, 56, 1) and rows.sharding.shard_shape(rows.shape) == (2, 14, 1)
    assert lowered.in_avals[0][1]["ids"].shape == (2, 16, 4)


def test_prepared_table_is_lowered_as_it_is_trained(tmp_path, table):
    table.prepare.features = ConfigDict({"user": {}, "item": {}})
    experiment = make_row_experiment(table, tmp_path)
    (plan, _) = plans_of(table, tmp_path / "work")
    batch = with_rows(next(experiment.finetuning("row_click", "lr").batches))
    assert {n: (a.shape, a.dtype) for n, a in plan.batch.items()} == {
        n: (a.shape, a.dtype) for n, a in batch.items()
    }
    assert plan.task == experiment.task("lr")


def test_features_that_are_wrong_or_missing_are_told(table):
    table.prepare.features = ConfigDict({"user": {"kind": "name"}})
    with pytest.raises(UserError, match=r"prepare\.features\.user\.kind = 'name'"):
        find_sizes(table)
    table.prepare.features = ConfigDict()
    with pytest.raises(UserError, match="name at least one feature"):
        find_sizes(table)


@pytest.mark.parametrize(
    ("config", "stages"),
    [
        (smoke, ["pretrain", "finetune/next_item", "finetune/click"]),
        (sasrec, ["finetune/next_item"]),  # which pretrains nothing
        (ctr_frappe, [f"finetune/row_click/{head}" for head in ("dnn", "deepfm", "dcnv2")]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_trainings_of_a_config_are_those_that_it_runs(config, stages):
    config = config.get_config()
    assert [plan.stage for plan in plans_of(config, stages=config.stages)] == stages
