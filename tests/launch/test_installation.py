"""The real thing, slowly: `pip install .`, and `launch/quickstart` from a fresh copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that a clean clone has, and uncommitted new ones."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    made = tmp_path / "a clone"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, made / name)
    return made


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True)


def install(python: Path, package: Path) -> None:
    """With uv where it is to be had, which takes seconds."""
    with_uv = run(python, "-m", "pip", "install", "--quiet", "uv", cwd=package).returncode == 0
    pip = (
        ["-m", "uv", "pip", "install", "--python", python] if with_uv else ["-m", "pip", "install"]
    )
    done = run(python, *pip, ".", cwd=package)
    assert done.returncode == 0, done.stderr


def test_pip_install_gives_a_complete_program(copy: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    install(python, copy)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(python.parent / "recjax", "--help", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout
    arguments = ["--config", copy / "configs/smoke.py", "--workdir", elsewhere / "run"]
    done = run(python.parent / "recjax", *arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "run/report.html").exists(), "the wheel must hold the page's template"
    names = "import importlib.metadata as m; print(*[d.name.lower() for d in m.distributions()])"
    installed = run(python, "-c", names, cwd=elsewhere).stdout.split()
    assert "jax" in installed
    assert not {"tensorflow", "tensorflow-cpu", "torch"} & set(installed)


def test_launch_from_a_fresh_copy_in_another_directory(copy: Path, tmp_path: Path) -> None:
    command = [copy / "launch/quickstart", "--python", sys.executable]
    first = run(*command, "--help", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "installing core" in first.stderr
    config = ["--config", copy / "configs/smoke.py", "--workdir", "my run", "--stages", "prepare"]
    second = run(*command, *config, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "installing" not in second.stderr
    assert (tmp_path / "my run/prepared/profile.json").exists()
    unclean = {path.name for path in copy.iterdir()} - {path.name for path in ROOT.iterdir()}
    assert unclean <= {".venv", "recjax.egg-info"}, "a clone stays clean"
