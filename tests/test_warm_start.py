"""A pretraining that begins with another run's encoder: rows by name, the rest as it is."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from example_records import make_item_table
from record_experiment import make_experiment
from small_params import flat
from tiny_training import ENCODER

from configs import smoke
from recjax.errors import UserError
from recjax.stages import fingerprint, pretrain
from recjax.tasks import MaskedItem
from recjax.train import train
from recjax.warm_start import Rows, match_rows, names_of_rows, warm_start
from recjax.workdir import Workdir

ITEMS, ACTIONS = make_item_table(), ("view", "buy")


def other_table():
    """Another log's items: some of ours in another order, some of its own, fewer categories."""
    kept = [*range(5), *range(44, 10, -3)]  # specials first
    names = np.array([f"{ITEMS.item_ids[i]}" if i % 2 or i < 5 else f"theirs {i}" for i in kept])
    category = np.array([0 if i < 5 else 1 + i % 3 for i in kept], np.int32)
    paths = np.array([f"c{5 - c}" if c else "" for c in category], object)
    return replace(ITEMS, item_ids=names, category_id=category, categories=paths)


def make_params(vocab_size, num_actions, num_categories, seed):
    config = replace(
        ENCODER, vocab_size=vocab_size, num_actions=num_actions, num_categories=num_categories
    )
    one = MaskedItem(config).init(jax.random.key(seed))
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), one)


def test_rows_with_a_name_go_over_and_all_else_as_it_is():
    theirs, ours = other_table(), ITEMS
    names = names_of_rows(theirs, ("buy", "rate")), names_of_rows(ours, ACTIONS)
    rows = {table: match_rows(names[0][table], names[1][table]) for table in names[0]}
    old = make_params(theirs.vocab_size, 2, theirs.num_categories, 0)
    fresh = make_params(ours.vocab_size, 2, ours.num_categories, 1)
    found = warm_start(old, fresh, rows)
    assert found["head"] is fresh["head"]
    before, start, after = (flat(tree["encoder"]) for tree in (old, fresh, found))
    for table in rows:
        where = {name: row for row, name in enumerate(names[0][table])}
        kinds = set()
        for row in range(start[table].shape[1]):
            name = names[1][table][row] if row < len(names[1][table]) else None  # padding
            expected = before[table][:, where[name]] if name in where else start[table][:, row]
            np.testing.assert_array_equal(after[table][:, row], expected)
            kinds.add(name in where)
        assert kinds == {True, False}, table
    for name in after.keys() - rows.keys():
        np.testing.assert_array_equal(after[name], before[name])


def test_no_name_in_common_leaves_the_table_fresh():
    rows = match_rows(["a"], ["b"])
    assert isinstance(rows, Rows) and len(rows.ours) == 0
    old, fresh = (make_params(ITEMS.vocab_size, 2, 6, seed) for seed in (0, 1))
    table = "embedding/item/table"
    found = flat(warm_start(old, fresh, {table: rows})["encoder"])
    np.testing.assert_array_equal(found[table], flat(fresh["encoder"])[table])
    assert (found[table] != flat(old["encoder"])[table]).any()


def test_encoders_of_other_sizes_are_refused_by_name():
    fresh = make_params(ITEMS.vocab_size, 2, 6, 1)
    small = make_params(ITEMS.vocab_size - 8, 2, 6, 1)
    with pytest.raises(UserError, match=r"embedding/item/table is \(2, 40, 16\) there and \(2, 48"):
        warm_start(small, fresh, {})
    lacking = {"encoder": {**fresh["encoder"], "embedding": {}}}
    with pytest.raises(UserError, match="embedding/action/table is here only"):
        warm_start(lacking, fresh, {})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Another run that says it is done, and one that begins with it."""
    other = Workdir.open(tmp_path / "other")
    config = smoke.get_config()
    config.num_seeds = 2
    (other / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    other.start("pretrain", {})
    other.finish("pretrain", {})
    (other / "pretrain" / "real").mkdir(parents=True)
    experiment = make_experiment(smoke.get_config(), tmp_path / "own", monkeypatch)
    experiment.context.config.pretrain.warm_start.workdir = str(other.root)
    return other, experiment


def test_other_run_is_part_of_what_a_pretraining_is_made_from(runs, tmp_path):
    other, experiment = runs
    for stage in ("tune", "pretrain"):
        inputs = fingerprint(stage, experiment.context)["inputs"]
        assert inputs["config.pretrain.warm_start"] == other.stage_digest("pretrain")
    settings = experiment.context.config.pretrain.warm_start
    settings.arm = "other"
    with pytest.raises(UserError, match=r"warm_start.arm = 'other' has no pretraining in"):
        experiment.pretraining("real")
    settings.arm, experiment.context.config.seed = "real", 7
    with pytest.raises(UserError, match=r"has seeds \(0, 1\), none for 7"):
        experiment.pretraining("real")
    experiment.context.config.pretrain.num_steps = 0
    with pytest.raises(UserError, match="num_steps = 0: nothing would begin there"):
        pretrain.run(experiment.context)
    settings.workdir = str(tmp_path)
    with pytest.raises(UserError, match="warm_start.workdir = .*give the work directory of anoth"):
        fingerprint("pretrain", experiment.context)


@pytest.mark.slow  # compiles two trainings
def test_pretraining_begins_where_the_other_ended(runs, tmp_path, monkeypatch):
    other, experiment = runs
    monkeypatch.setattr(type(experiment), "items", experiment.items)
    first = make_experiment(smoke.get_config(), tmp_path / "first", monkeypatch)
    first.context.config.num_seeds = 2
    for run in (first, experiment):
        run.context.config.pretrain.update(num_steps=4, eval_interval_steps=2, warmup_steps=1)
    train(first.pretraining("real"), first.context.engine, first.context.progress)
    (other / "pretrain" / "real").rmdir()
    (other / "pretrain").rmdir()
    (tmp_path / "first" / "pretrain").rename(other / "pretrain")
    training = experiment.pretraining("real")
    fresh = training.init_params(np.zeros(1, np.uint32))
    begun = flat(training.start(fresh))
    stored = flat(experiment.other_run(str(other.root), "real", "key").pretrain_params("real"))
    for name in begun:
        expected = stored[name][:1] if name.startswith("encoder") else flat(fresh)[name]
        np.testing.assert_array_equal(begun[name], expected, err_msg=name)
    train(training, experiment.context.engine, experiment.context.progress)
