"""Templates for other schedulers: they parse, agree with the program, and linters accept them."""

import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.hardware import find_accelerator

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
OWN_FAULT, AGAIN = [1, 2, 3], [42, 134, 137, 139, 143]
VALUES = {
    "NAME": "recjax",
    "IMAGE": "image:tag",
    "BUCKET": "bucket",
    "ACCELERATOR": "tpu-v6e-slice",
    "TOPOLOGY": "4x4",
    "HOSTS": "4",
    "CHIPS": "4",
    "DEVICES": "16",
    "SLICES": "1",
    "CONFIG": "configs/sasrec.py:ml1m",
}


def jobset() -> dict:
    text = (LAUNCH / "gke/jobset.yaml.tmpl").read_text()
    made = yaml.safe_load(string.Template(text).substitute(VALUES))
    assert isinstance(made, dict)
    return made


def test_jobset_has_a_place_for_every_value_and_names_each_in_its_command() -> None:
    text = (LAUNCH / "gke/jobset.yaml.tmpl").read_text()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert set(re.findall(r"\$\{(\w+)\}", body)) == set(VALUES)
    assert all(f"{name}=" in text for name in VALUES)


def test_jobset_runs_one_process_a_host_and_restarts_on_the_right_codes() -> None:
    (job,) = jobset()["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["parallelism"] == spec["completions"] == 4 and spec["backoffLimit"] == 0
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == OWN_FAULT
    (outer,) = jobset()["spec"]["failurePolicy"]["rules"]
    assert outer == {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "or the API refuses podFailurePolicy"
    (container,) = pod["containers"]
    assert container["name"] == rule["onExitCodes"]["containerName"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"RECJAX_EXPECT_BACKEND": "tpu", "RECJAX_EXPECT_DEVICES": "16"}
    assert container["args"][-1].startswith(container["volumeMounts"][0]["mountPath"])


def test_skypilot_asks_for_what_exists_and_restarts_on_the_right_codes() -> None:
    task = yaml.safe_load((LAUNCH / "sky/recjax.yaml").read_text())
    resources = task["resources"]
    hardware = find_accelerator(resources["accelerators"].removeprefix("tpu-"))
    image = resources["accelerator_args"]["runtime_version"]
    assert image == hardware.generation.runtime_version
    assert resources["job_recovery"]["recover_on_exit_codes"] == AGAIN
    assert Path(ROOT, task["envs"]["CONFIG"]).exists()
    for line in (task["setup"], task["run"]):
        assert Path(ROOT, line.split()[1]).exists()


def test_slurm_starts_a_process_a_gpu_and_queues_again_on_the_right_codes() -> None:
    text = (LAUNCH / "slurm/gpu.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.M))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "TERM@120" and "requeue" in options
    (codes,) = re.findall(r"^ +([\d |]+)\) scontrol requeue", text, re.M)
    assert [int(code) for code in codes.split("|")] == AGAIN
    first_word = next(line for line in text.splitlines() if line and not line.startswith("#"))
    assert first_word == "set -euo pipefail", "SLURM reads no option after the first command"


def run_sbatch(folder: Path, code: int) -> tuple[int, str]:
    """Runs the script with stand-ins for srun and scontrol."""
    log = folder / "log"
    for name, ends in (("srun", code), ("scontrol", 0)):
        (folder / name).write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>{log}\nexit {ends}\n')
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}
    words = ["bash", LAUNCH / "slurm/gpu.sbatch", "--config", "a b"]
    done = subprocess.run(words, env=environment, capture_output=True)
    return done.returncode, log.read_text()


@pytest.mark.parametrize(("code", "again"), [(0, False), (2, False), (42, True), (137, True)])
def test_slurm_script_queues_a_saved_run_again(tmp_path: Path, code: int, again: bool) -> None:
    ended, log = run_sbatch(tmp_path, code)
    assert ended == code and ("scontrol requeue 7" in log) == again
    assert "-m recjax.main --config a b" in log


def test_run_tpu_makes_the_environment_and_becomes_the_program(tmp_path: Path) -> None:
    checkout = tmp_path / "recjax"
    shutil.copytree(LAUNCH / "remote", checkout / "launch/remote")
    shutil.copy(LAUNCH / "run_tpu.sh", checkout / "launch")
    (checkout / "requirements.txt").write_text("jax\n")
    (checkout / "probe.py").write_text("import os, sys; print(sys.argv[1:], os.environ['X'])")
    uv = tmp_path / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(
        '#!/usr/bin/env bash\n[[ "$1" == venv ]] || exit 0\n'
        f'mkdir -p "${{@: -1}}/bin" && ln -s {sys.executable} "${{@: -1}}/bin/python"\n'
    )
    uv.chmod(0o755)
    environment = {"PATH": f"{uv.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "X": "kept"}
    words = ["bash", "recjax/launch/run_tpu.sh", "probe", "--config", "a b"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.stdout == "['--config', 'a b'] kept\n", done.stderr


def find_tool(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def test_dockerfile_passes_its_linter_and_copies_what_exists() -> None:
    path = LAUNCH / "docker/Dockerfile"
    done = subprocess.run([find_tool("hadolint"), path], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    copied = re.findall(r"^COPY (\S+)", path.read_text(), re.M)
    assert copied == ["requirements.txt", "configs", "recjax"]
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert all((ROOT / name).exists() and f"!{name}" in kept for name in copied)
    assert (ROOT / ".dockerignore").exists() and "ENTRYPOINT [" in path.read_text()
