"""Every shipped config is complete, knows no dead key, and trains a step of each of its tasks."""

import importlib
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from record_experiment import make_experiment
from row_table import make_row_experiment

from configs import default
from recjax.errors import UserError
from recjax.main import dotted_keys, parse
from recjax.recipe import make_recipe
from recjax.stages import OPTIONAL, inputs_of
from recjax.train import with_rows

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))
# sections whose keys are a user's own names, not settings
OPEN = ("data.action_names", "data.columns", "data.catalogue_columns", "data.users_columns")
OPEN += ("data.graph_columns", "expansion.arms", "expansion.overrides", "prepare.features.")
OPEN += ("finetune.row_click.overrides", "finetune.row_outcomes.overrides", "data.table.also.")


def load(name):
    return importlib.import_module(f"configs.{name}").get_config()


def experiment_of(config, folder, monkeypatch):
    """An experiment on made-up data of the config's kind, and how each of its trainings is made."""
    if config.data.kind == "table":
        plan = make_row_experiment(config, folder)
        return plan, [
            (plan.task(head), plan.settings_of(head), partial(plan.finetuning, plan.tasks[0], head))
            for head in plan.arms
        ]
    plan = make_experiment(config, folder, monkeypatch)
    trainings = [(plan.pretrain_task(), config.pretrain, partial(plan.pretraining, "real"))]
    for name in plan.tasks:
        training = partial(plan.finetuning, name, "real")
        trainings.append((plan.finetune_task(name), config.finetune[name], training))
    return plan, trainings


def settings_of(config):
    return {key for key in dotted_keys(config) if not key.startswith(OPEN)}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_every_key_and_no_other(name):
    assert settings_of(load(name)) == settings_of(default.get_config())


@pytest.mark.parametrize("name", CONFIGS)
def test_stages_of_a_config_have_what_they_read(name):
    config = load(name)
    for place, stage in enumerate(config.stages):
        needed = set(inputs_of(stage, config)) - set(OPTIONAL)
        assert needed <= set(config.stages[:place]), stage
    assert "recommend" not in config.stages or "next_item" in config.finetune.tasks


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_the_header_a_reader_needs(name):
    text = (ROOT / "configs" / f"{name}.py").read_text()
    if name != "default":
        for word in ("Command:", "Time:", "Result:", "Verified:"):
            assert word in text.split('"""')[1]


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "hstu"])
def test_config_of_published_protocol_takes_its_data_as_argument(name):
    flags = (f"--config={ROOT}/configs/{name}.py:ml1m", "--workdir=x")
    config = parse(flags).config
    assert config.name == f"{name}_ml1m" and config.model.max_len == 200
    assert settings_of(config) == settings_of(default.get_config())
    assert not config.expansion.arms
    with pytest.raises(UserError, match="known: beauty, ml1m"):
        parse((flags[0].replace("ml1m", "nothing"), flags[1]))
    with pytest.raises(UserError, match="no such file"):
        parse((flags[0].replace(f"{name}.py", "none.py"), flags[1]))


def test_no_key_is_dead():
    code = "\n".join(path.read_text() for path in (ROOT / "recjax").rglob("*.py"))
    words = set(re.findall(r"\w+", code))
    leaves = {key.rsplit(".", 1)[-1] for key in settings_of(default.get_config())}
    assert not leaves - words


@pytest.mark.parametrize("name", CONFIGS)
def test_step_of_each_task_of_a_config_can_be_traced(name, tmp_path, monkeypatch):
    experiment, trainings = experiment_of(load(name), tmp_path, monkeypatch)
    for task, settings, make_training in trainings:
        recipe, seeds = make_recipe(task, settings, None), jnp.zeros(1, jnp.uint32)
        state = jax.eval_shape(recipe.create, jax.eval_shape(recipe.init_params, seeds), seeds)
        batch = with_rows(next(make_training().batches))
        new, metrics = jax.eval_shape(recipe.step, state, batch, experiment.constants)
        assert jax.tree.map(lambda a: a.shape, new) == jax.tree.map(lambda a: a.shape, state)
        assert metrics["train/loss"].shape == (1,)


@pytest.mark.slow  # compiling takes most of a minute each; the quick suite runs smoke whole instead
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "default"])
def test_config_trains_a_step_of_each_task(name, tmp_path, monkeypatch):
    experiment, trainings = experiment_of(load(name), tmp_path, monkeypatch)
    constants = experiment.context.engine.put_constants(experiment.constants)
    for training in (make_training() for _, _, make_training in trainings):
        seeds = jnp.asarray(training.seeds, jnp.uint32)
        state = training.create(training.init_params(seeds), seeds)
        before = jax.tree.map(np.asarray, state.params)
        batch = experiment.context.engine.put_member_batch(with_rows(next(training.batches)))
        state, metrics = training.step(state, batch, constants)
        state, metrics = training.step(state, batch, constants)  # warm-up: the first rate is 0
        assert np.isfinite(metrics["train/loss"]).all()
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, state.params)
        assert any(jax.tree.leaves(moved))
