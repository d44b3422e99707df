"""`launch aot`: what it compiles and says; with libtpu here, the real TPU compiler."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import aot
from launch.errors import LaunchError
from launch.flags import PROFILES, libtpu_flags
from launch.plan import AOT_RECORD
from recjax import preflight
from recjax.parallel.aot import ENVIRONMENT
from recjax.parallel.topologies import find_topology

ROOT = Path(__file__).resolve().parents[2]
REPORT = {
    "training": "pretrain",
    "seconds": 1.234,
    "fits": True,
    "usable_bytes": int(15.75 * 2**30),
    "memory": {"peak": 3 << 30},
    "flops": 1.5e9,
    "collectives": {"all-reduce": {"count": 3, "bytes": 5 << 20}},
}
SMOKE_TRAININGS = ["pretrain", "finetune/next_item", "finetune/click"]
TYPES = {"v4": "v4-8", "v5e": "v5e-4", "v5p": "v5p-8", "v6e": "v6e-4"}


def test_rows_say_what_a_table_needs() -> None:
    row = aot.read_report(REPORT)
    assert row["verdict"] == "fits, 3.00 of 15.75 GiB a chip"
    assert (row["collectives"], row["collective_mib"]) == (3, 5.0)
    assert (row["training"], row["seconds"]) == ("pretrain", 1.2)
    said = {"fits": False, "compiler_says": "Ran out of memory: 38.15G"}
    refused = aot.read_report({**REPORT, **said})
    assert refused["verdict"] == "refused: Ran out of memory: 38.15G"
    assert not refused["fits"] and "peak_gib" not in refused


def test_every_config_that_runs_as_it_is_is_shipped() -> None:
    shipped = aot.shipped_configs()
    assert "configs/quickstart.py" in shipped and "configs/default.py" not in shipped


@pytest.mark.parametrize(
    ("config", "asked", "stages"),
    [
        ("smoke", (), ("pretrain",)),
        ("sasrec", (), ("finetune",)),  # which pretrains nothing
        ("smoke", ("pretrain", "finetune"), ("pretrain", "finetune")),
    ],
)
def test_first_stage_that_trains_is_compiled(monkeypatch, config, asked, stages) -> None:
    found = []
    monkeypatch.setattr(preflight, "ask_child", lambda *words: found.append(words) or [REPORT])
    (row,) = aot.compile_config(f"configs/{config}.py", "v5e-8", asked)
    assert row["accelerator"] == "v5litepod-8" and row["devices"] == 8 and row["fits"]
    assert [words[2] for words in found] == [stages]


def test_what_the_record_has_is_not_compiled_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(aot, "_PACKAGES", ("jax",))
    asked: list[str] = []

    def compile_config(config: str, accelerator: str, stages) -> list[dict]:
        asked.append(config)
        row = {"config": config, "training": "pretrain", "accelerator": "v5litepod-1"}
        return [{**row, "fits": True if config == "a" else None, "verdict": ""}]

    monkeypatch.setattr(aot, "compile_config", compile_config)
    path = str(tmp_path / "aot.json")
    codes = [aot.run_aot(["a", "b"], ["v5e-1"], [], path, missing=True) for _ in range(2)]
    assert asked == ["a", "b", "b"] and codes == [1, 1], "what failed is tried again"


def test_rows_of_other_configs_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(aot, "_PACKAGES", ("jax",))
    path = tmp_path / "aot.json"
    for config, training in (("a", ""), ("b", "pretrain"), ("a", "pretrain")):
        aot.write_rows(path, [{"config": config, "training": training, "accelerator": "t"}])
    rows = json.loads(path.read_text())["rows"]
    assert [(row["config"], row["training"]) for row in rows] == [
        ("a", "pretrain"),
        ("b", "pretrain"),
    ]


def test_table_shows_of_each_config_what_needs_most_and_stands_in_the_readme() -> None:
    def row(training: str, accelerator: str, peak: float | None) -> dict:
        found = {"config": "configs/a.py", "training": training, "accelerator": accelerator}
        found |= {"devices": 8 if "8" in accelerator else 1, "fits": bool(peak), "seconds": 3.0}
        return found | ({"peak_gib": peak, "usable_gib": 15.75} if peak else {})

    rows = [row("pretrain", "v5e-8", 1.0), row("finetune/x", "v5e-8", 2.0)]
    rows += [row("pretrain", "v5e-1", 4.0), row("finetune/x", "v5e-1", None)]
    assert aot.table_lines({"rows": rows}) == [
        "| config, training | v5e-1, of 15.75 | v5e-8, of 15.75 | s |",
        "|---|---|---|---|",
        "| `a`, finetune/x | refused | 2.00 | 3 |",
    ]
    assert (
        aot.table_lines({"rows": rows[:2] + rows[2:3]})[2] == "| `a`, pretrain | 4.00 | 1.00 | 3 |"
    )
    lines = aot.table_lines(json.loads((ROOT / AOT_RECORD).read_text()))
    assert "\n".join(lines) in (ROOT / "README.md").read_text(), "python -m launch aot --table"


def test_missing_compiler_names_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"pip install 'jax\[tpu\]'"):
        aot.run_aot([], [], [], "")


def test_record_is_of_shipped_configs_and_says_its_versions() -> None:
    record = json.loads((ROOT / AOT_RECORD).read_text())
    assert {"jax", "libtpu"} <= set(record["versions"])
    types = {find_topology(name).accelerator for name in aot.TYPES}
    assert {row["accelerator"] for row in record["rows"]} <= types
    assert {row["config"] for row in record["rows"]} <= set(aot.shipped_configs())
    assert all(row["verdict"].startswith(("fits, ", "refused: ")) for row in record["rows"])
    assert all(row["seconds"] > 0 for row in record["rows"])


needs_libtpu = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="the TPU compiler is not installed: pip install 'jax[tpu]'",
    ),
]


@pytest.mark.parametrize("accelerator", [pytest.param("v5e-8", marks=needs_libtpu)])
def test_small_set_compiles(accelerator: str) -> None:
    rows = aot.compile_config("configs/smoke.py", accelerator, ["pretrain", "finetune"])
    assert [row["training"] for row in rows] == SMOKE_TRAININGS
    assert all(row["fits"] and row["peak_gib"] < row["usable_gib"] for row in rows), rows


TINY_COMPILE = """
import sys, jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from recjax.parallel import make_mesh
from recjax.parallel.aot import topology_devices
from recjax.parallel.topologies import find_topology
mesh = make_mesh({"data": -1}, topology_devices(find_topology(sys.argv[1])))
rows, whole = (NamedSharding(mesh, spec) for spec in (P("data"), P()))
x = jax.ShapeDtypeStruct((512, 256), jnp.float32, sharding=rows)
w = jax.ShapeDtypeStruct((256, 256), jnp.float32, sharding=whole)
step = jax.jit(jax.grad(lambda w, x: ((x @ w) ** 2).sum()), out_shardings=whole)
print("all-reduce" in step.lower(w, x).compile().as_text())
"""


def compile_with(flags: str, accelerator: str) -> subprocess.CompletedProcess[str]:
    """Compiles a gradient that is summed over all chips, with flags, in a process of its own."""
    environment = {**os.environ, **ENVIRONMENT, "LIBTPU_INIT_ARGS": flags, "PYTHONPATH": "."}
    words = [sys.executable, "-c", TINY_COMPILE, accelerator]
    return subprocess.run(words, env=environment, text=True, capture_output=True, timeout=600)


@pytest.mark.parametrize(
    ("profile", "generation"),
    [
        pytest.param(name, generation, marks=needs_libtpu)
        for name, (generations, _) in PROFILES.items()
        for generation in generations
    ],
)
def test_flags_of_a_profile_compile_on_their_generation(profile: str, generation: str) -> None:
    done = compile_with(libtpu_flags(profile, generation), TYPES[generation])
    assert done.stdout == "True\n", done.stderr[-2000:]


@pytest.mark.parametrize("accelerator", [pytest.param("2xv5e-8", marks=needs_libtpu)])
def test_two_slices_compile_as_one_mesh(accelerator: str) -> None:
    assert compile_with("", accelerator).stdout == "True\n"


@pytest.mark.parametrize("flags", [pytest.param("--xla_tpu_no_such_flag=true", marks=needs_libtpu)])
def test_flag_that_does_not_exist_ends_the_compiler(flags: str) -> None:
    done = compile_with(flags, "v5e-4")
    assert done.returncode and "xla_tpu_no_such_flag" in done.stderr + done.stdout
