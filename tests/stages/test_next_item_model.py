"""The trainer that the expand stage hands to strategies that draw from a neural model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from record_experiment import make_experiment

from configs import smoke
from recjax.data.transforms import align_left
from recjax.errors import UserError
from recjax.expansion import ExpansionData, get_strategy
from recjax.objectives import GENERATOR_TASKS
from recjax.stages import fingerprint, next_item_model


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return make_experiment(smoke.get_config(), tmp_path, monkeypatch)


def test_score_of_a_prefix_is_that_of_the_whole_sequence_there(experiment):
    task = experiment.generator_task("transformer")
    constants = {"item_category": jnp.asarray(experiment.constants["item_category"])}
    params = {"model": task.init(jax.random.key(0)), "constants": constants}
    records = [r for r in experiment.examples("sequences", "train") if len(r["items"]) >= 4][:3]
    bins = experiment.encoder.num_gap_bins
    whole = align_left(records, num_rows=3, max_len=8, num_gap_bins=bins)

    @jax.jit
    def both(params, whole, cut):
        hidden = task.encode(params["model"], whole, params["constants"], causal=True)
        table, bias = task.item_table(params["model"])
        return hidden[:, 2] @ table.T + bias[None], next_item_model.make_score(task)(params, cut)

    cut = {**whole, "segments": (np.arange(8)[None] < 3).astype(np.int32).repeat(3, axis=0)}
    cut |= {"lengths": np.full(3, 3, np.int32)}
    there, alone = both(params, whole, cut)
    assert there.shape == (3, experiment.encoder.table_rows)
    np.testing.assert_allclose(there, alone, rtol=1e-5, atol=1e-5)


def test_seeds_train_once_and_settings_arrive(experiment, monkeypatch):
    calls = []
    monkeypatch.setattr(
        next_item_model, "_train_members", lambda *_: calls.append(1) or {0: "zero", 1: "one"}
    )
    experiment.context.config.expansion.transformer.update(temperature=0.7, top_k=9)
    trainer = next_item_model.make_trainer(experiment)
    models = [trainer("transformer", seed) for seed in (0, 1)]
    assert len(calls) == 1 and [model.params for model in models] == ["zero", "one"]
    assert models[0].score is models[1].score, "one compiled sampler for all seeds"
    assert (models[0].temperature, models[0].top_k) == (0.7, 9)


def test_strategies_have_models_of_their_own(experiment, monkeypatch):
    monkeypatch.setattr(next_item_model, "_train_members", lambda _, name: {0: name})
    trainer = next_item_model.make_trainer(experiment)
    models = {name: trainer(name, 0) for name in GENERATOR_TASKS}
    assert all(model.params == name for name, model in models.items())
    assert models["transformer"].latent_dim == 0 and models["sequence_vae"].latent_dim == 16


def test_several_processes_are_refused(experiment, monkeypatch):
    monkeypatch.setattr("recjax.distributed.count", lambda: 2)
    with pytest.raises(UserError, match="trains in one process, here are 2"):
        next_item_model.make_trainer(experiment)("transformer", 0)


def test_generator_trains_on_real_users_under_its_own_settings(experiment):
    settings = experiment.context.config.expansion.transformer
    settings.update(num_steps=7, batch_size=16)
    training = experiment.generator_training("transformer")
    assert training.loop.num_steps == 7 and next(training.batches)["items"].shape[1] == 16
    assert training.folder == experiment.context.workdir / "expansion/generators/transformer"


def test_model_binds_the_stage_only_where_it_is_trained(experiment):
    context, arms = experiment.context, experiment.context.config.expansion.arms
    assert "model" not in fingerprint("expand", context)["config"]
    arms.expanded.transformer = 0.5
    assert fingerprint("expand", context)["config"]["model"]["hidden_dim"] > 0


@pytest.mark.slow  # compiles a training
@pytest.mark.parametrize("name", GENERATOR_TASKS)
def test_trained_model_draws_users(name, experiment):
    context = experiment.context
    settings = context.config.expansion[name]
    settings.update(num_steps=4, eval_interval_steps=2, batch_size=8, warmup_steps=1)
    source = experiment.examples("sequences", "train")
    data = ExpansionData(
        source, 1800, 5, 16, train_next_item=next_item_model.make_trainer(experiment)
    )
    strategy = get_strategy(name)
    key = jax.random.key(0)
    draws = strategy.draw(key, strategy.fit(data, context.seeds[0]), 16, 0)
    seen = np.concatenate([record["items"] for record in source])
    assert np.isin(np.concatenate([record["items"] for record in draws]), seen).all()
    again = next_item_model.make_trainer(experiment)  # the finished training is taken up
    data = ExpansionData(source, 1800, 5, 16, train_next_item=again)
    same = strategy.draw(key, strategy.fit(data, context.seeds[0]), 16, 0)
    for left, right in zip(draws, same, strict=True):
        np.testing.assert_array_equal(left["items"], right["items"])
