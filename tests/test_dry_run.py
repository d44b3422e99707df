"""`--dry_run`: the plan, the figures beside what a real state holds, and the refusal."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from example_records import make_item_table
from rich.console import Console

from configs import smoke
from recjax import dry_run, main, planned
from recjax.errors import UserError
from recjax.parallel import make_engine
from recjax.planned import find_sizes, lower_training, plan_trainings
from recjax.recipe import make_recipe

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("pretrain", "finetune")


@pytest.fixture
def config():
    config = smoke.get_config()
    config.aot.num_items, config.aot.num_categories = 123, 7
    return config


def plans_of(config, stages=STAGES):
    return plan_trainings(config, find_sizes(config), stages, "cpu")


def test_every_training_is_planned(config):
    assert [(plan.stage, plan.arms) for plan in plans_of(config)] == [
        ("pretrain", ("real", "expanded")),
        ("finetune/next_item", ("real", "expanded")),
        ("finetune/click", ("real", "expanded")),
    ]
    config.expansion.use_in = "finetune"
    assert plans_of(config)[0].arms == ("real",)
    config.pretrain.num_steps = 0
    assert [plan.stage for plan in plans_of(config)] == ["finetune/next_item", "finetune/click"]
    assert plans_of(config, ("prepare", "expand")) == []
    config.expansion.arms.expanded = {"transformer": 1.0}
    (plan,) = plans_of(config, ("expand",))
    assert plan.task.causal and plan.settings is config.expansion.transformer
    config.expansion.arms.other = {"sequence_vae": 1.0}
    plans = plans_of(config, ("expand",))
    assert [plan.arms for plan in plans] == [("transformer",), ("sequence_vae",)]


def test_click_training_is_lowered_with_the_loaders_fields(config):
    plan = plans_of(config)[-1]
    lowered, _ = lower_training(config, plan, jax.devices())
    batch = lowered.in_avals[0][1]
    assert batch["items"].shape == (2, 16, 16) and batch["label"].shape == (2, 16)
    assert {"candidate", "hour", "weekday", "position", "weight", "row"} <= set(batch)


def test_state_is_as_large_as_told(config):
    config.parallel.mesh.fsdp, config.parallel.mesh.data = 4, 2
    config.model.vocab_multiple = 4
    (plan, *_) = plans_of(config)
    memory = dry_run.estimate_memory(config, plan, jax.devices()).memory
    engine = make_engine("jit", dict(config.parallel.mesh))
    recipe, seeds = make_recipe(plan.task, plan.settings, None), jnp.arange(2, dtype="uint32")
    create = engine.compile_once(
        lambda: recipe.create(recipe.init_params(seeds), seeds), recipe.logical
    )
    state = create()
    held = {
        name: sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))
        for name, tree in vars(state).items()
    }
    assert memory["parameters"] == memory["gradients"] == held["params"]
    assert memory["optimizer moments"] == held["opt_state"]
    assert memory["best parameters so far"] == held["best_params"]


@pytest.mark.slow
def test_activations_grow_with_the_batch(config):
    (small, *_) = plans_of(config)
    before = dry_run.estimate_memory(config, small, jax.devices()).memory
    config.pretrain.batch_size *= 8
    after = dry_run.estimate_memory(config, small, jax.devices()).memory
    name = "activations, temporaries"
    assert after[name] > 3 * before[name]
    assert after["parameters"] == before["parameters"]


def flags(*words):
    sizes = ("--config.aot.num_items=123", "--config.aot.num_categories=7")
    return [f"--config={ROOT}/configs/smoke.py", "--dry_run", *sizes, *words]


def test_program_prints_and_ends_with_0_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(flags("--stages=pretrain")) == 0
    out = capsys.readouterr().out
    assert "123 items, by config.aot.num_items" in out
    for words in ("pretrain: 2 trainings (real, expanded)", "optimizer moments", "GiB", "encoder/"):
        assert words in out
    assert "finetune" not in out
    assert list(tmp_path.iterdir()) == []


def test_training_that_exceeds_the_memory_ends_with_2(monkeypatch, capsys, uncompiled):
    monkeypatch.setattr(dry_run, "memory_bytes", lambda device: 2 << 30)
    assert main.main(flags("--stages=pretrain,finetune")) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "does not fit: pretrain needs 3.00 GiB, finetune/next_item needs 3.00 GiB" in told
    assert "each device, which has 2.00 GiB" in told
    monkeypatch.setattr(dry_run, "memory_bytes", lambda device: 3 << 30)
    assert main.main(flags("--stages=pretrain,finetune")) == 0


@pytest.fixture
def uncompiled(monkeypatch):
    """Takes every training to need 3 GiB on a device."""
    estimate = dry_run.Estimate([], {"parameters": 1 << 30, "activations, temporaries": 2 << 30})
    monkeypatch.setattr(dry_run, "estimate_memory", lambda config, plan, devices: estimate)


def test_prepared_catalogue_is_taken_where_there_is_one(tmp_path, config, monkeypatch, uncompiled):
    items = tmp_path / "prepared" / "items.parquet"
    items.parent.mkdir()
    items.touch()
    asked = []
    monkeypatch.setattr(dry_run, "memory_bytes", lambda device: 3 << 30)
    monkeypatch.setattr(planned, "read_items", lambda path: asked.append(path) or make_item_table())
    console = Console(file=io.StringIO(), width=160)
    dry_run.run(config, str(tmp_path), ("pretrain",), console)
    assert asked == [items]
    assert "sizes: 40 items, of" in console.file.getvalue()


def test_unknown_memory_refuses_nothing(config, monkeypatch, uncompiled):
    monkeypatch.setattr(dry_run, "memory_bytes", lambda device: None)
    console = Console(file=io.StringIO(), width=120)
    dry_run.run(config, "", ("pretrain",), console)
    assert "in all" in console.file.getvalue()


def test_wrong_config_is_told(config):
    config.parallel.mesh.data = 3
    with pytest.raises(UserError, match="asks for 3 devices, there are 8"):
        dry_run.run(config, "", STAGES, Console(quiet=True))
