"""Heads on a labelled table: settings of each, what keys of the section change, trials."""

import jax
import pytest
from ml_collections import ConfigDict
from row_table import make_row_experiment

from configs import default
from recjax.errors import UserError

MODEL = {  # key: another value, and a head whose parameters it changes
    "embedding_dim": (3, "fm"),
    "hidden_dims": ((5,), "dnn"),
    "norm": ("layer", "dnn"),
    "num_cross_layers": (1, "dcn"),
    "cross_dims": ((3,), "xdeepfm"),
    "num_heads": (3, "autoint"),
    "attention_dim": (3, "autoint"),
    "num_orders": (3, "eulernet"),
    "mask_factor": (0.5, "masknet"),
    "block_dim": (3, "masknet"),
    "vocab_multiple": (64, "lr"),
}
ELSEWHERE = {"dropout_rate", "dtype"}


@pytest.fixture
def plan(tmp_path):
    config = default.get_config()
    section = config.finetune.row_click
    section.update(heads=("dnn", "fm"), num_steps=7)
    section.model.update(hidden_dims=(4, 4))
    return make_row_experiment(config, tmp_path)


def shapes(task):
    params = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    return [leaf.shape for leaf in jax.tree.leaves(params)]


def test_every_key_of_the_model_is_tested(plan):
    assert set(plan.context.config.finetune.row_click.model) == set(MODEL) | ELSEWHERE


@pytest.mark.parametrize("key", MODEL)
def test_key_of_the_model_changes_the_parameters(key, plan):
    value, head = MODEL[key]
    before = shapes(plan.task(head))
    plan.context.config.finetune.row_click.model[key] = value
    assert shapes(plan.task(head)) != before


def test_dropout_and_dtype_arrive_in_the_head(plan):
    plan.context.config.finetune.row_click.model.update(dropout_rate=0.4, dtype="bfloat16")
    assert plan.task("dnn").model.dropout_rate == 0.4 and plan.task("dnn").model.dtype == "bfloat16"


def test_adversarial_settings_arrive_in_the_task(plan):
    section = plan.context.config.finetune.row_click.adversarial
    assert not plan.task("dnn").adversary.acts
    section.update(method="pgd", size=0.3, steps=2, weight=0.5)
    assert dict(section) == vars(plan.task("dnn").adversary)
    section.method = "free"
    with pytest.raises(UserError, match="head dnn: method = 'free'"):
        plan.task("dnn")


def test_heads_are_arms_with_settings_of_their_own(plan):
    section = plan.context.config.finetune.row_click
    section.overrides = ConfigDict({"fm": {"learning_rate": 0.5, "embedding_dim": 7}})
    assert plan.arms == ("dnn", "fm") and plan.tasks == ("row_click",)
    assert plan.settings_of("fm").learning_rate == 0.5 and plan.task("fm").model.embedding_dim == 7
    assert plan.settings_of("dnn").learning_rate == section.learning_rate
    assert plan.task("dnn").model.embedding_dim == section.model.embedding_dim
    plan.check_recipes("row_click")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ()}, "name at least one head, each once"),
        ({"heads": ("fm", "fm")}, "name at least one head, each once"),
        ({"heads": ("fn",)}, "config.finetune.row_click: head 'fn' is unknown; known: lr, fm"),
        ({"overrides": ConfigDict({"dnm": {}})}, "head 'dnm' is unknown"),
        ({"overrides": ConfigDict({"fm": {"rate": 1}})}, "overrides.fm.rate is no setting"),
        ({"overrides": ConfigDict({"fm": {"norm": "x"}})}, "head fm: norm = 'x'"),
        ({"overrides": ConfigDict({"fm": {"optimizer": "x"}})}, "optimizer 'x' is unknown"),
    ],
)
def test_wrong_setting_is_an_error_of_the_user(changes, message, plan):
    plan.context.config.finetune.row_click.update(changes)
    with pytest.raises(UserError, match=message):
        plan.check_recipes("row_click")


def test_training_is_shaped_by_its_section_and_judged_on_validation(plan):
    training = plan.finetuning("row_click", "fm")
    assert training.loop.num_steps == 7 and training.metric_name == "auc"
    assert training.folder == plan.context.workdir / "finetune/row_click/fm"
    assert next(training.batches)["ids"].shape == (1, 16, 3)
    assert [t.label for t in plan.trainings_to("row_click", "fm")] == [training.label]
    assert len(plan.judged_batches("valid")) == -(-len(plan.source("valid")) // 16)
    plan.context.config.evaluate.part = "train"
    with pytest.raises(UserError, match="config.evaluate.part = 'train'"):
        _ = plan.judged_part
