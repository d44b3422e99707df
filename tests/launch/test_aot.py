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
from recjax.parallel.aot import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
REPORT = {
    "fits": True,
    "usable_bytes": int(15.75 * 2**30),
    "memory": {"peak": 3 << 30},
    "flops": 1.5e9,
    "collectives": {"all-reduce": {"count": 3, "bytes": 5 << 20}},
}
TYPES = {"v4": "v4-8", "v5e": "v5e-4", "v5p": "v5p-8", "v6e": "v6e-4"}


def test_rows_say_what_a_table_needs() -> None:
    row = aot.read_report(REPORT)
    assert row["verdict"] == "fits, 3.00 of 15.75 GiB a chip"
    assert (row["collectives"], row["collective_mib"]) == (3, 5.0)
    refused = aot.read_report({"fits": False, "compiler_says": "Ran out of memory: 38.15G"})
    assert refused == {"fits": False, "verdict": "refused: Ran out of memory: 38.15G"}


def test_every_config_that_runs_as_it_is_is_shipped() -> None:
    shipped = aot.shipped_configs()
    assert "configs/quickstart.py" in shipped and "configs/default.py" not in shipped


def test_rows_of_other_configs_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(aot, "_PACKAGES", ("jax",))
    path = tmp_path / "aot.json"
    for config, verdict in (("a", "old"), ("b", "fits"), ("a", "new")):
        aot.write_rows(path, [{"config": config, "accelerator": "t", "verdict": verdict}])
    rows = json.loads(path.read_text())["rows"]
    assert [(row["config"], row["verdict"]) for row in rows] == [("a", "new"), ("b", "fits")]


def test_missing_compiler_names_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"pip install 'jax\[tpu\]'"):
        aot.run_aot([], [], "")


def test_record_is_of_shipped_configs_and_says_its_versions() -> None:
    record = json.loads((ROOT / AOT_RECORD).read_text())
    assert {"jax", "libtpu"} <= set(record["versions"])
    assert {row["config"] for row in record["rows"]} <= set(aot.shipped_configs())
    assert all(row["verdict"].startswith(("fits, ", "refused: ")) for row in record["rows"])


needs_libtpu = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="the TPU compiler is not installed: pip install 'jax[tpu]'",
    ),
]


@pytest.mark.parametrize("accelerator", [pytest.param("v5e-8", marks=needs_libtpu)])
def test_small_set_compiles(accelerator: str) -> None:
    row = aot.compile_one("configs/smoke.py", accelerator)
    assert row["fits"] and row["peak_gib"] < row["usable_gib"], row


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
