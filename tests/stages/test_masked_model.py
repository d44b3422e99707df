"""The checkpoint of a first run, opened by a second: what fits, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from record_experiment import make_experiment

from configs import smoke
from recjax.data.record_sources import open_examples
from recjax.data.transforms import align_left
from recjax.errors import UserError
from recjax.stages import expand, fingerprint, masked_model
from recjax.train import train
from recjax.workdir import Workdir


def _config():
    config = smoke.get_config()
    config.expansion.arms = {"filled": {"masked_fill": 1.0}}
    return config


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return make_experiment(_config(), tmp_path / "second", monkeypatch)


@pytest.fixture
def first(tmp_path, experiment):
    """A work directory that says that a pretraining has ended there."""
    workdir = Workdir.open(tmp_path / "first")
    config = smoke.get_config()
    (workdir / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    for run in (workdir, experiment.context.workdir):
        run.start("prepare", {"log": "same"})
    workdir.start("pretrain", {})
    workdir.finish("pretrain", {})
    (workdir / "pretrain" / "real").mkdir(parents=True)
    experiment.context.config.expansion.masked_fill.workdir = str(workdir.root)
    return workdir


def test_wrong_first_runs_are_refused_by_name(experiment, tmp_path):
    with pytest.raises(UserError, match="masked_fill.workdir = '': give the work directory"):
        masked_model.make_loader(experiment)(0)
    experiment.context.config.expansion.masked_fill.workdir = str(tmp_path)
    with pytest.raises(UserError, match="give the work directory of another run"):
        fingerprint("expand", experiment.context)


def test_another_log_arm_or_reading_is_refused(experiment, first, monkeypatch):
    settings = experiment.context.config.expansion.masked_fill
    monkeypatch.setattr(
        "recjax.experiment.Experiment.pretrain_task", lambda self: type("T", (), {"causal": True})
    )
    with pytest.raises(UserError, match="reads causally; masked_item is needed"):
        masked_model.open_first_run(experiment)
    settings.arm = "other"
    with pytest.raises(UserError, match="arm = 'other' has no pretraining in"):
        masked_model.open_first_run(experiment)
    settings.arm = "real"
    first.start("prepare", {"log": "same"})
    (first.root / ".stages" / "prepare.json").write_text('{"fingerprint": {}, "done": true}')
    with pytest.raises(UserError, match="was prepared from another log"):
        masked_model.open_first_run(experiment)
    monkeypatch.setattr("recjax.distributed.count", lambda: 2)
    with pytest.raises(UserError, match="draws in one process, here are 2"):
        masked_model.open_first_run(experiment)


def test_first_run_binds_the_draws(experiment, first):
    before = fingerprint("expand", experiment.context)
    assert before["inputs"]["config.expansion.masked_fill"] == first.stage_digest("pretrain")
    experiment.context.config.expansion.arms = {"plain": {"hmm_users": 1.0}}
    assert "masked_fill" not in fingerprint("expand", experiment.context)["inputs"]


def test_members_settings_and_seeds_arrive(experiment, first, monkeypatch):
    cls = type(experiment)
    monkeypatch.setattr(cls, "items", experiment.items)
    monkeypatch.setattr(
        cls, "pretrain_params", lambda self, arm: {"arm": np.array([f"{arm} 0", f"{arm} 1"])}
    )
    monkeypatch.setattr("jax.numpy.asarray", lambda x: x)
    experiment.context.config.expansion.masked_fill.update(top_k=9, insert_share=0.1)
    load = masked_model.make_loader(experiment)
    models = [load(seed) for seed in (0, 1)]
    assert [model.params["model"]["arm"] for model in models] == ["real 0", "real 1"]
    assert models[0].score is models[1].score, "one compiled filler for all seeds"
    assert (models[0].top_k, models[0].insert_share) == (9, 0.1)
    experiment.context.config.seed = 7
    with pytest.raises(UserError, match=r"has seeds \(0, 1\), none for 7"):
        masked_model.make_loader(experiment)(7)


@pytest.mark.slow  # compiles a training
def test_a_second_round_fills_users_from_the_checkpoint_of_the_first(
    experiment, first, tmp_path, monkeypatch
):
    monkeypatch.setattr(type(experiment), "items", experiment.items)
    before = make_experiment(smoke.get_config(), tmp_path / "first", monkeypatch)
    before.context.config.num_seeds = smoke.get_config().num_seeds  # as its config.json says
    training = before.context.config.pretrain
    training.update(num_steps=4, eval_interval_steps=2, batch_size=8, warmup_steps=1)
    shutil.rmtree(first / "pretrain")
    train(before.pretraining("real"), before.context.engine, before.context.progress)
    config = experiment.context.config.expansion
    config.gate.update(likelihood_band=(0.0, 1.0), rare_item_quota=0.0)
    expand.run(experiment.context)
    folder = tmp_path / "second" / "expansion" / "filled" / "seed_0"
    drawn = open_examples(folder, "sequences", "train")
    real = {r["user"]: r for r in experiment.examples("sequences", "train")}
    assert len(drawn) > 3
    for place in range(len(drawn)):
        record = drawn[place]
        own = real[record["user"]]["items"]
        assert len(own) <= config.short_user_events
        assert len(record["items"]) >= len(own)
        assert not np.array_equal(record["items"], own)


@pytest.mark.slow  # compiles
def test_score_is_that_of_the_hidden_place(experiment):
    task = experiment.pretrain_task()
    constants = {"item_category": np.asarray(experiment.constants["item_category"])}
    params = {"model": task.init(jax.random.key(0)), "constants": constants}
    records = [r for r in experiment.examples("sequences", "train") if len(r["items"]) >= 4][:3]
    bins = experiment.encoder.num_gap_bins
    batch = align_left(records, num_rows=3, max_len=8, num_gap_bins=bins)
    batch["hidden"] = np.arange(8)[None].repeat(3, axis=0) == 2
    score = jax.jit(masked_model.make_score(task))
    plain = score(params, batch, np.full(3, 2))
    assert plain.shape == (3, experiment.encoder.table_rows)
    unread = {**batch, "items": batch["items"].copy()}
    unread["items"][:, 2] = 7
    np.testing.assert_allclose(score(params, unread, np.full(3, 2)), plain, rtol=1e-5)
    seen = {**batch, "items": batch["items"].copy()}
    seen["items"][:, 3] = np.where(seen["items"][:, 3] == 7, 8, 7)
    assert (np.abs(score(params, seen, np.full(3, 2)) - plain).max(axis=1) > 1e-5).all()
