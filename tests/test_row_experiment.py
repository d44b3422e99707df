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
OUTCOME_MODEL = {
    "embedding_dim": (3, "shared_bottom"),
    "hidden_dims": ((5,), "shared_bottom"),
    "tower_dims": ((5,), "shared_bottom"),
    "num_experts": (3, "mmoe"),
    "num_levels": (2, "ple"),
    "norm": ("layer", "shared_bottom"),
    "vocab_multiple": (64, "shared_bottom"),
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


@pytest.fixture
def outcomes(tmp_path):
    config = default.get_config()
    config.data.table.also = ConfigDict({"buy": {"column": "buy", "yes": ""}})
    config.finetune.tasks = ("row_outcomes",)
    config.finetune.row_outcomes.update(heads=("mmoe", "ple", "shared_bottom"), num_steps=7)
    config.finetune.row_outcomes.model.hidden_dims = (4,)
    return make_row_experiment(config, tmp_path)


def test_every_key_of_the_model_of_outcomes_is_tested(outcomes):
    assert (
        set(outcomes.context.config.finetune.row_outcomes.model) == set(OUTCOME_MODEL) | ELSEWHERE
    )


@pytest.mark.parametrize("key", OUTCOME_MODEL)
def test_key_of_the_model_of_outcomes_changes_the_parameters(key, outcomes):
    value, head = OUTCOME_MODEL[key]
    before = shapes(outcomes.task(head))
    outcomes.context.config.finetune.row_outcomes.model[key] = value
    assert shapes(outcomes.task(head)) != before
    outcomes.context.config.finetune.row_outcomes.model.update(dropout_rate=0.4, dtype="bfloat16")
    assert outcomes.task(head).model.dropout_rate == 0.4


def test_outcomes_are_learned_together_and_alone(outcomes):
    assert outcomes.arms == ("single_0", "single_1", "mmoe", "ple", "shared_bottom")
    assert outcomes.outcomes == ("label", "buy")
    assert outcomes.task("mmoe").learned == (0, 1) and outcomes.task("single_1").learned == (1,)
    assert shapes(outcomes.task("single_0")) == shapes(outcomes.task("shared_bottom"))
    outcomes.context.config.finetune.row_outcomes.update(
        weights=(1.0, 0.5), balance="uncertainty", order_weight=0.1
    )
    changed = outcomes.task("ple")
    assert (changed.weights, changed.balance, changed.order_weight) == (
        (1, 0.5),
        "uncertainty",
        0.1,
    )
    training = outcomes.finetuning("row_outcomes", "mmoe")
    assert next(training.batches)["label"].shape == (1, 16, 2)
    assert training.folder == outcomes.context.workdir / "finetune/row_outcomes/mmoe"
    outcomes.context.config.finetune.row_outcomes.singles = False
    assert outcomes.arms == ("mmoe", "ple", "shared_bottom")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ("deepfm",)}, "head 'deepfm' is unknown; known: shared_bottom, mmoe"),
        ({"weights": (1.0,)}, "row_outcomes, head mmoe: weights = .*; give one of each"),
        ({"balance": "x"}, "balance = 'x'"),
        ({"gradient_surgery": "x"}, "gradient_surgery = 'x'; known: none, pcgrad"),
    ],
)
def test_wrong_setting_of_outcomes_is_an_error_of_the_user(changes, message, outcomes):
    outcomes.context.config.finetune.row_outcomes.singles = False
    outcomes.context.config.finetune.row_outcomes.update(changes)
    with pytest.raises(UserError, match=message):
        outcomes.check_recipes("row_outcomes")
