"""Importing recjax does nothing: no backend, no files, no words, no heavy guests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_IMPORT_ALL = """
import os, pkgutil, signal, sys
before = (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM))
import recjax
names = [m.name for m in pkgutil.walk_packages(recjax.__path__, "recjax.")]
for name in names:
    __import__(name)
assert len(names) > 20, names
after = (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM))
assert before[1:] == after[1:]
ours = {k for k in before[0].keys() ^ after[0].keys() if not k.startswith(("TF_", "KMP_"))}
assert not ours, f"importing recjax changed the environment: {ours}"
for heavy in ("tensorflow", "torch", "pyspark", "optuna", "wandb"):
    assert heavy not in sys.modules, f"importing recjax imports {heavy}"
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "importing recjax starts a JAX backend"
"""


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, text=True, capture_output=True
    )


def test_importing_everything_has_no_effect(tmp_path: Path) -> None:
    done = run_python(_IMPORT_ALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_importing_main_is_light(tmp_path: Path) -> None:
    heavy = "{'jax', 'transformers', 'matplotlib', 'tensorflow_datasets', 'ibis', 'scipy'}"
    done = run_python(f"import sys, recjax.main; print({heavy} & set(sys.modules))", tmp_path)
    assert done.stdout.strip() == "set()", "a bad flag must be told at once"


def test_the_runner_of_stages_brings_in_no_stage(tmp_path: Path) -> None:
    heavy = "{'recjax.expansion', 'recjax.models', 'scipy'}"
    done = run_python(f"import sys, recjax.stages; print({heavy} & set(sys.modules))", tmp_path)
    assert done.stdout.strip() == "set()", "prepare must not wait for what it does not use"


@pytest.mark.parametrize("room", ["reporting", "data"])
def test_host_rooms_import_no_device_code_of_ours(tmp_path: Path, room: str) -> None:
    """Not even through another room; what a library imports for itself is its own affair."""
    code = f"""
import pkgutil, sys, recjax.{room} as room
for module in pkgutil.walk_packages(room.__path__, "recjax.{room}."):
    __import__(module.name)
device_rooms = ("hmm", "models", "losses", "metrics", "tasks", "parallel", "train", "step")
print([name for name in device_rooms if "recjax." + name in sys.modules])
"""
    done = run_python(code, tmp_path)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
