"""`--aot`: what it builds, prints and refuses; the real TPU compiler where there is one."""

import importlib.util
import io
from pathlib import Path

import jax
import pytest
from rich.console import Console

from configs import smoke
from recjax import main, planned, preflight
from recjax.errors import UserError
from recjax.parallel.topologies import find_topology

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("pretrain",)
REPORT = {
    "training": "pretrain",
    "accelerator": "v5litepod-4",
    "topology": "v5e:2x2",
    "devices": 4,
    "fits": True,
    "usable_bytes": int(15.75 * 2**30),
    "memory": {"arguments": 1 << 29, "peak": 3 << 30},
    "flops": 1.5e9,
    "bytes_accessed": 1e9,
    "collectives": {"all-reduce": {"count": 3, "bytes": 5 << 20}},
}


def tiny(**mesh):
    config = smoke.get_config()
    config.parallel.mesh = mesh or {"data": -1, "fsdp": 1, "tensor": 1}
    config.aot.num_items, config.aot.num_categories = 123, 7
    return config


def lower(config, stages=STAGES):
    """What the compile of the first training is given: (state, batch, constants)."""
    sizes = planned.find_sizes(config)
    plan, *_ = planned.plan_trainings(config, sizes, stages, "cpu")
    lowered, _ = planned.lower_training(config, plan, jax.devices())
    return lowered.in_avals[0]


def aot(*words):
    return main.main([f"--config={ROOT}/configs/smoke.py", *words])


def test_step_of_the_config_is_lowered_with_its_sizes():
    config = tiny()
    config.pretrain.objectives.masked_text = 1.0
    state, batch, constants = lower(config)
    assert state.params["encoder"]["embedding"]["item"]["table"].shape == (2, 128, 16)
    assert state.params["encoder"]["embedding"]["category"]["table"].shape == (2, 8, 16)
    assert batch["items"].shape == (2, 16, 16)
    assert constants["item_category"].shape == (128,)
    assert constants["item_tokens"].shape == (128, config.prepare.text.max_len)
    assert state.params["text"]["embedding"]["word"]["table"].shape == (2, 300, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parallel.engine": "pmap"}, "compile the jit engine"),
        ({"pretrain.batch_size": 12}, "batch_size = 12 does not divide over 8 devices"),
        ({"parallel.mesh.data": 3}, "asks for 3 devices, there are 8"),
        ({"parallel.mesh.fsdp": 8, "aot.num_items": 124}, "item table of 129 rows .*=8 rounds"),
        ({"pretrain.objectives.masked_item": 0.0}, "exactly one of masked_item"),
    ],
)
def test_config_that_cannot_be_is_refused(change, message):
    config = tiny()
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        lower(config)


def test_report_names_memory_flops_and_collectives():
    console = Console(file=io.StringIO(), width=100)
    preflight.print_report(REPORT, console)
    text = console.file.getvalue()
    for words in ("v5litepod-4", "memory, peak", "3.000 GiB", "15.75 GiB", "1.500e+09"):
        assert words in text
    assert "all-reduce x 3" in text and "5.00 MiB" in text


def test_unknown_type_ends_with_2(capsys):
    assert aot("--aot=v5e-7") == 2
    assert "unknown accelerator type" in capsys.readouterr().err


def test_missing_compiler_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert aot("--aot=v5e-4") == 2
    assert "pip install 'jax[tpu]'" in capsys.readouterr().err


def test_step_that_does_not_fit_ends_with_2_and_the_compilers_words(monkeypatch, capsys):
    refused = {"fits": False, "compiler_says": "Ran out of memory: 38.15G exceeds 15.75G"}
    answers = [REPORT, {**REPORT, "training": "finetune/click", **refused}]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(preflight, "ask_child", lambda config, topology, stages: answers)
    assert aot("--aot=v5e-4") == 2
    said = capsys.readouterr()
    assert "does not fit on v5litepod-4: finetune/click: Ran out of memory: 38.15G" in said.err
    assert "pretrain on v5litepod-4" in said.out


def test_compile_that_takes_too_long_is_stopped():
    config = tiny()
    config.aot.timeout_seconds = 0
    with pytest.raises(UserError, match="longer than config.aot.timeout_seconds = 0"):
        preflight.ask_child(config, find_topology("v5e-4"), STAGES)


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the TPU compiler is not installed: pip install 'jax[tpu]'",
)


@pytest.mark.slow
@needs_libtpu
def test_tpu_compiler_takes_the_step_and_refuses_one_that_cannot_fit():
    config, topology = tiny(data=1, fsdp=4, tensor=1), find_topology("v5e-4")
    config.aot.num_items = 59_995
    (report,) = preflight.ask_child(config, topology, STAGES)
    assert report["fits"] and report["memory"]["peak"] < report["usable_bytes"]
    assert 15 < report["usable_bytes"] / 2**30 < 16
    moved = sum(found["bytes"] for found in report["collectives"].values())
    table_bytes = 2 * 60_000 * 16 * 4
    assert 0 < moved < table_bytes / 4  # vectors of the batch travel, never the table
    assert "all-reduce" in report["collectives"]
    config.aot.num_items = 400_000_000 - 5
    (refused,) = preflight.ask_child(config, topology, STAGES)
    assert not refused["fits"] and "15.75G" in refused["compiler_says"]


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(("objective", "heads"), [("masked_item", 1), ("next_item", 2)])
def test_tpu_compiler_takes_the_splash_kernel(objective, heads):
    config, topology = tiny(data=2, fsdp=1, tensor=2), find_topology("v5e-4")
    config.pretrain.objectives.update({"masked_item": 0.0, objective: 1.0})
    config.model.update(
        {
            "attention": "splash",
            "attention_dropout_rate": 0.0,
            "max_len": 128,
            "hidden_dim": 64 * heads,
            "num_heads": heads,
            "dtype": "bfloat16",
        }
    )
    (report,) = preflight.ask_child(config, topology, STAGES)
    assert report["fits"]
