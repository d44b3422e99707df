"""A cloud in a folder: gcloud, uv and gcsfuse are stand-ins, the code sent is a tiny checkout."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.gcloud import Runner
from launch.history import History
from launch.launcher import Launcher
from launch.spec import Spec

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

# Stands in for recjax.main: counts steps, keeps progress.json, saves on SIGTERM, then goes on.
PROGRAM = """
import json, os, pathlib, signal, sys, time
words = dict(w.lstrip("-").split("=", 1) for w in sys.argv[1:] if "=" in w)
folder = pathlib.Path(sys.argv[sys.argv.index("--workdir") + 1])
folder.mkdir(parents=True, exist_ok=True)
saved, stopped = folder / f"saved-{os.environ['RECJAX_WORKER']}", []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
step = int(saved.read_text()) if saved.exists() else 0
print("from step", step, "expects", os.environ["RECJAX_EXPECT_DEVICES"], flush=True)
while step < int(words["steps"]) and not stopped:
    step += 1
    beside = saved.with_suffix(".partial")
    beside.write_text(str(step))
    beside.replace(saved)
    time.sleep(0.01)
state = "interrupted" if stopped else "done"
if os.environ["RECJAX_WORKER"] == "0":
    facts = {"state": state, "step": step, "time": time.time(),
             "revision": os.environ["RECJAX_REVISION"], "secret": os.environ.get("TOKEN", "")}
    (folder / "progress.json").write_text(json.dumps(facts))
sys.exit(42 if stopped else int(words.get("code", 0)))
"""
UV = """#!/usr/bin/env bash
echo "$*" >>"$HOME/uv.log"
if [[ "$1" == venv ]]; then mkdir -p "${{@: -1}}/bin" && ln -s {python} "${{@: -1}}/bin/python"; fi
"""
GCSFUSE = """#!/usr/bin/env bash
bucket="${{@: -2:1}}" target="${{@: -1}}"
mkdir -p {storage}/"$bucket" && rmdir "$target" 2>/dev/null
ln -sfn {storage}/"$bucket" "$target"
"""


@dataclass
class Cloud:
    """The folder, and what a test asks of it."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def state(self) -> dict:
        path = self.folder / "state.json"
        return json.loads(path.read_text()) if path.exists() else {"queued": {}, "nodes": {}}

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def workdir(self) -> Path:
        return self.folder / "storage/bucket/run"

    def home(self, worker: int = 0, node: str = "tpu") -> Path:
        return self.folder / "homes" / f"{node}-{worker}"

    def change(self, **nodes_or_queued: str) -> None:
        """Gives the node, or the queued resource, another state."""
        state = self.state
        for table, value in nodes_or_queued.items():
            for facts in state[table].values():
                facts["state"] = {"state": value} if table == "queued" else value
        (self.folder / "state.json").write_text(json.dumps(state))

    def fail(self, match: str, err: str, times: int = 1) -> None:
        """Lets the next calls with these words fail."""
        path = self.folder / "faults.json"
        faults = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*faults, {"match": match, "err": err, "times": times}]))

    def counts(self, *words: str) -> int:
        return sum(all(word in call for word in words) for call in self.calls)

    def launcher(self, *, steps: int = 3, code: int = 0, **spec: object) -> Launcher:
        made = make_spec(**spec)
        history = History(self.folder / "history", made.name)
        words = ["--config=x", f"--steps={steps}", f"--code={code}"]
        said: list[str] = []
        launcher = Launcher(
            made, Runner(), history, words, self.checkout, poll_seconds=0.02, say=said.append
        )
        launcher.said = said  # type: ignore[attr-defined]
        return launcher


def make_spec(**changes: object) -> Spec:
    fields = {
        "name": "tpu",
        "accelerator": "v5e-4",
        "zones": ("us-west4-a",),
        "workdir": "gs://bucket/run",
        "max_restarts": 5,
    }
    return Spec(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """One with hosts of four chips; FAKE_HOSTS says how many hosts a slice has."""
    made, tools = Cloud(tmp_path), tmp_path / "bin"
    tools.mkdir()
    stand_ins = {
        "uv": UV.format(python=sys.executable),
        "gcsfuse": GCSFUSE.format(storage=tmp_path / "storage"),
        "gcloud": f'#!/usr/bin/env bash\nexec {sys.executable} -ES {HERE}/fake_gcloud.py "$@"\n',
    }
    for name, text in stand_ins.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "chips").mkdir()
    for chip in range(4):
        (tmp_path / f"chips/{chip}").touch()
    make_checkout(made.checkout, f"{tmp_path}/chips/*")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GCLOUD", str(tmp_path))
    monkeypatch.setenv("RECJAX_AT_END_SECONDS", "600")
    yield made
    for pid in tmp_path.glob("homes/*/.recjax/runs/*/pid"):
        subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"], capture_output=True)


def make_checkout(folder: Path, chips: str) -> None:
    """A git repository with the remote scripts and a program in place of recjax."""
    (folder / "recjax").mkdir(parents=True)
    (folder / "recjax/__init__.py").touch()
    (folder / "recjax/main.py").write_text(PROGRAM)
    for name in ("buckets", "errors"):
        shutil.copy(ROOT / f"recjax/{name}.py", folder / "recjax")
    (folder / "requirements.txt").write_text("jax\n")
    shutil.copytree(ROOT / "launch/remote", folder / "launch/remote")
    preflight = folder / "launch/remote/preflight.py"
    preflight.write_text(preflight.read_text().replace("/dev/accel*", chips))
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git[:3], "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=first"], check=True)
