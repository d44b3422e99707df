"""The two commands, run in a copy with a stand-in for Python that logs what is asked of it.

What is proved here: which interpreter is found, when the environment is made, reused, completed or
made anew, and what is run in it. The real installation is test_installation.py (slow).
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = "bash env dirname cat mkdir rm cp cksum touch flock sed getconf chmod".split()

# Answers the version question, makes "environments" with itself in them, logs all else.
STAND_IN = """#!/usr/bin/env bash
case "$*" in
    *ensurepip*) [[ "{version}" == 3.1[123] ]] || exit 1; echo {version} ;;
    *importlib.metadata*) ;;
    --version) echo "Python {version}" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; echo "venv" >>"$LOG" ;;
    *) printf '%s|' "$@" >>"$LOG"; echo >>"$LOG" ;;
esac
case "$*" in
    *"install --quiet uv") exit "${{NO_UV:-0}}" ;;
    *" install "*) exit "${{INSTALL_FAILS:-0}}" ;;
    *ruff*) exit "${{LINT_FAILS:-0}}" ;;
    *recjax.main*) echo "pid $$"; exit "${{MAIN_CODE:-0}}" ;;
esac
"""


@dataclass
class Clone:
    """A copy of the launch files beside a `bin` that holds only the tools and stand-ins."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "a clone"

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def add_python(self, path: str, version: str) -> Path:
        stand_in = self.folder / path
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(STAND_IN.format(version=version))
        stand_in.chmod(0o755)
        return stand_in

    def call(self, command: str, *arguments: str, **settings: str):
        (self.folder / "log").unlink(missing_ok=True)
        environment = {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "LOG": str(self.folder / "log"),
            **settings,
        }
        return subprocess.run(
            [self.root / "launch" / command, *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    def installs(self) -> list[str]:
        return [line for line in self.log if "--editable" in line]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"no {tool} here")
        (tmp_path / "bin" / tool).symlink_to(found)
    (made.root / "launch").mkdir(parents=True)
    for name in ("launch/quickstart", "launch/test", "launch/environment"):
        shutil.copy(ROOT / name, made.root / name)
    for name in ("requirements.txt", "pyproject.toml"):
        (made.root / name).write_text("first\n")
    return made


def test_quickstart_makes_the_environment_and_runs_main(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    done = clone.call("quickstart", "--workdir", "my runs", "--config.seed=3")
    assert done.returncode == 0, done.stderr
    assert clone.log[0] == "venv"
    assert f"--python|{clone.root}/.venv/bin/python|--editable|.|" in clone.installs()[0]
    assert clone.log[-1] == (
        f"-m|recjax.main|--config|{clone.root}/configs/quickstart.py"
        f"|--workdir|{clone.root}/runs/quickstart|--workdir|my runs|--config.seed=3|"
    )
    assert "my runs/report.html" in done.stderr


def test_quickstart_passes_on_the_exit_code_and_is_replaced_by_main(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    clone.call("quickstart")
    process = subprocess.Popen(
        [clone.root / "launch/quickstart"],
        env={
            "PATH": str(clone.folder / "bin"),
            "HOME": "/",
            "LOG": os.devnull,
            "MAIN_CODE": "42",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    out, _ = process.communicate()
    assert process.returncode == 42
    assert out == f"pid {process.pid}\n", "a signal to quickstart must reach the program"


def test_second_call_installs_nothing(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    clone.call("quickstart")
    clone.call("quickstart")
    assert len(clone.log) == 1 and "recjax.main" in clone.log[0]


def test_changed_requirements_are_installed(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    clone.call("quickstart")
    (clone.root / "requirements.txt").write_text("second\n")
    clone.call("quickstart")
    assert "venv" not in clone.log and len(clone.installs()) == 1


def test_tests_add_to_the_same_environment_and_quickstart_keeps_it(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    clone.call("quickstart")
    clone.call("test")
    assert "venv" not in clone.log and clone.installs()[0].endswith("--editable|.[test]|")
    clone.call("quickstart")
    assert not clone.installs()


def test_failed_install_says_so_and_the_environment_is_made_anew(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    done = clone.call("quickstart", INSTALL_FAILS="1")
    assert done.returncode == 1 and "the installation failed" in done.stderr
    assert not any("recjax.main" in line for line in clone.log)
    (clone.root / ".venv/half").touch()
    assert clone.call("quickstart").returncode == 0
    assert "venv" in clone.log and not (clone.root / ".venv/half").exists()


def test_environment_whose_python_is_gone_is_made_anew(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    clone.call("quickstart")
    (clone.root / ".venv/bin/python").unlink()
    assert clone.call("quickstart").returncode == 0
    assert "venv" in clone.log


def test_without_uv_pip_installs(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    assert clone.call("quickstart", NO_UV="1").returncode == 0
    assert clone.installs() == ["-m|pip|install|--quiet|--editable|.|"]


@pytest.mark.parametrize(
    "path", ["bin/python3.13", "bin/python3", "home/.pyenv/versions/3.12.1/bin/python"]
)
def test_python_is_found(clone: Clone, path: str) -> None:
    clone.add_python(path, "3.12" if "pyenv" in path else "3.13")
    assert clone.call("quickstart").returncode == 0


def test_name_on_path_that_does_not_run_is_passed_over(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "2.7")  # what a pyenv shim without that version does
    clone.add_python("bin/python3.13", "3.13")
    assert "Python 3.13" in clone.call("quickstart").stderr


@pytest.mark.parametrize("arguments", [(), ("--python", "bin/python3"), ("--python=nothing",)])
def test_no_fitting_python_ends_with_2_and_advice(clone: Clone, arguments: tuple) -> None:
    clone.add_python("bin/python3", "3.10")
    done = clone.call("quickstart", *arguments)
    assert done.returncode == 2
    assert "3.11, 3.12 or 3.13" in done.stderr and "--python PATH" in done.stderr
    assert not (clone.root / ".venv").exists()


def test_another_python_gets_a_folder_of_its_own(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    other = clone.add_python("other/python", "3.13")
    clone.call("quickstart")
    assert clone.call("quickstart", f"--python={other}").returncode == 0
    assert (clone.root / ".venv-3.13/bin/python").exists()
    clone.call("quickstart", "--python", str(other))
    assert not clone.installs()


def test_test_runs_lint_types_and_the_quick_tests(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    done = clone.call("test", "tests/hmm", "-k", "a b")
    assert done.returncode == 0, done.stderr
    assert [line.split("|")[1] for line in clone.log[-4:]] == ["ruff", "ruff", "mypy", "pytest"]
    assert "|-m|not slow|" in clone.log[-1] and clone.log[-1].endswith("|tests/hmm|-k|a b|")


def test_test_stops_at_the_first_failure(clone: Clone) -> None:
    clone.add_python("bin/python3.11", "3.11")
    done = clone.call("test", LINT_FAILS="1")
    assert done.returncode == 1
    assert "ruff" in clone.log[-1]


@pytest.mark.parametrize(("machine", "more"), [("x86_64", ",tpu"), ("aarch64", "")])
def test_test_all_runs_both_lanes_with_all_extras(clone: Clone, machine: str, more: str) -> None:
    for version in ("3.11", "3.12", "3.13"):
        clone.add_python(f"bin/python{version}", version)
    done = clone.call("test", "--all", "-x", OSTYPE="linux-gnu", HOSTTYPE=machine)
    assert done.returncode == 0, done.stderr
    runs = [line for line in clone.log if "|pytest|" in line]
    assert len(runs) == 2 and all("|slow or not slow|" in run for run in runs)
    assert all(line.endswith(f".[test,notebook,spark{more}]|") for line in clone.installs())
    assert sorted(p.name for p in clone.root.glob(".venv*")) == [".venv", ".venv-3.13"]


def test_scripts_pass_shellcheck() -> None:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        pytest.skip("no shellcheck here")
    scripts = ["launch/environment", "launch/quickstart", "launch/test", ".ci/run"]
    scripts += ["launch/run_tpu.sh", "launch/slurm/gpu.sbatch"]
    scripts += [str(path.relative_to(ROOT)) for path in ROOT.glob("launch/remote/*.sh")]
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
