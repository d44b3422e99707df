"""The real gcloud against a TPU service and an ssh of our own, on loopback, without credentials."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_tpu_api import TpuApi, serve

from launch import capacity, commands, plan, reports, workers
from launch.gcloud import Answer, Runner, classify
from launch.watch import run, watch

gcloud = shutil.which("gcloud")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(gcloud is None, reason="gcloud is not installed"),
    pytest.mark.timeout(1200),
]

# What follows the host is run by bash in the worker's folder, as sshd would.
SSH = """#!{python}
import os, pathlib, subprocess, sys
words = sys.argv[1:]
at = next(i for i, word in enumerate(words) if "10.1." in word)
home = pathlib.Path({folder!r}, "homes", words[at].split("10.1.")[1])
home.mkdir(parents=True, exist_ok=True)
command = " ".join(word for word in words[at + 1:] if word != "--")
sys.exit(subprocess.run(["bash", "-c", command], cwd=home,
                        env=dict(os.environ, HOME=str(home))).returncode)
"""
SCP = """#!{python}
import pathlib, shutil, sys
def place(word):
    if "10.1." not in word: return pathlib.Path(word)
    host, _, path = word.split("10.1.")[1].partition(":")
    return pathlib.Path({folder!r}, "homes", host, path)
source, target = map(place, sys.argv[-2:])
target.parent.mkdir(parents=True, exist_ok=True)
shutil.copytree(source, target / source.name) if source.is_dir() else shutil.copy(source, target)
"""
# --plain: no keys are handed out, which would need the Compute Engine service too
WRAPPER = """#!/usr/bin/env bash
if [[ "$*" == *"tpu-vm ssh"* || "$*" == *"tpu-vm scp"* ]]; then set -- "$@" --plain; fi
exec {gcloud} "$@"
"""


@pytest.fixture
def service(cloud, monkeypatch):
    """The stand-in for gcloud is replaced by the real one, which talks to a service of ours."""
    values = {"python": sys.executable, "folder": str(cloud.folder), "gcloud": gcloud}
    for name, text in (("ssh", SSH), ("scp", SCP), ("gcloud", WRAPPER)):
        path = cloud.folder / "bin" / name
        path.write_text(text.format(**values))
        path.chmod(0o755)
    key = cloud.folder / "home/.ssh/google_compute_engine"
    key.parent.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key], check=True)
    api = TpuApi(num_hosts=int(os.environ.get("FAKE_HOSTS", "1")))
    with serve(api) as address:
        for name, value in {
            "HOME": cloud.folder / "home",
            "CLOUDSDK_CONFIG": cloud.folder / "config",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": f"{address}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{address}/compute/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_PROJECT": "demo",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        }.items():
            monkeypatch.setenv(name, str(value))
        yield api


def test_whole_life_with_a_preemption(cloud, service) -> None:
    launcher = cloud.launcher(steps=1000, workdir="")
    events = []

    def preempt(seconds: float) -> None:
        if not events and list(cloud.folder.glob("homes/*/.recjax/runs/tpu/pid")):
            events.append(1)
            service.tables["queuedResources"]["tpu"]["state"] = {"state": "SUSPENDED"}

    launcher.sleep = preempt
    assert watch(launcher) == 0, launcher.said
    assert service.tables == {"nodes": {}, "queuedResources": {}}
    assert len(service.bodies) == 2 and launcher.history.read().restarts == 1
    assert '"step": 1000' in (cloud.checkout / "runs/tpu/progress.json").read_text()
    node = service.bodies[0]["tpu"]["nodeSpec"][0]["node"]
    assert node["acceleratorType"] == "v5litepod-4"
    assert node["runtimeVersion"] == "v2-alpha-tpuv5-lite" and node["labels"]["recjax"] == "tpu"


def test_verbs_one_by_one(cloud, service, capfd) -> None:
    launcher = cloud.launcher(steps=100_000, workdir=str(cloud.folder / "shared"))
    assert watch(launcher, until_ready=True) == 0, launcher.said
    hosts = launcher.ready_hosts()
    workers.sync(launcher, hosts)
    workers.setup(launcher, hosts)
    run(launcher, replace=False)
    assert reports.show_status(launcher).word == "RUNNING", launcher.said
    capfd.readouterr()
    assert reports.show_logs(launcher, None, 10, False, False) == 0
    assert "[w0] from step 0 expects 4" in capfd.readouterr().out
    workers.stop(launcher, hosts)
    assert reports.show_status(launcher).reason == "the run ended with 42"
    capacity.down(launcher)
    assert service.tables == {"nodes": {}, "queuedResources": {}}


def test_pod_of_two_slices_and_reap(cloud, service, monkeypatch) -> None:
    service.num_hosts = 2
    launcher = cloud.launcher(
        accelerator="v5e-8", slices=2, on_done="keep", workdir=str(cloud.folder / "shared")
    )
    assert watch(launcher) == 0, launcher.said
    assert len(list((cloud.folder / "shared").glob("saved-*"))) == 4
    (params,) = [spec["multisliceParams"] for spec in service.bodies[0]["tpu"]["nodeSpec"]]
    assert int(params["nodeCount"]) == 2 and params["nodeIdPrefix"] == "tpu"
    assert capacity.reap(launcher, 4e9) >= 1
    assert service.tables["queuedResources"] == {}


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"capacity": "spot"}, {"spot": {}}),
        (
            {"capacity": "reserved"},
            {"reservationName": "projects/demo/locations/us-west4-a/reservations/-"},
        ),
        (
            {"capacity": "flex", "accelerator": "v6e-4", "max_hours": 3},
            {"provisioningModel": "FLEX_START", "runDuration": {"maxRunDuration": "10800s"}},
        ),
    ],
)
def test_capacity_is_asked_for_in_the_services_words(cloud, service, changes, body) -> None:
    launcher = cloud.launcher(**changes)
    capacity.create(launcher)
    asked = service.bodies[0]
    assert {key: asked.get(key) for key in body} == body, asked
    assert asked["queueingPolicy"] == {"validUntilDuration": "21600s"}


def test_answers_have_the_words_that_are_known(cloud, service) -> None:
    launcher, runner = cloud.launcher(), Runner()
    spec, zone = launcher.spec, "us-west4-a"
    labels = {"recjax": "tpu"}
    answers = [
        runner.run(command).answer
        for command in (
            commands.describe(spec, zone),
            commands.create(spec, zone, labels),
            commands.create(spec, zone, labels),
            commands.describe(spec, zone),
            commands.delete(spec, zone),
        )
    ]
    assert answers == [Answer.ABSENT, Answer.OK, Answer.EXISTS, Answer.OK, Answer.OK]
    assert (
        classify(runner.run([*commands.describe(spec, zone), "--nonsense"]).err) is Answer.INVALID
    )
    assert plan.all_commands(spec, [])["up"][0] == commands.create(
        spec, zone, {"recjax": "tpu", "recjax-expires": "EXPIRES"}
    )


def test_service_that_does_not_answer_is_no_reason_to_create(cloud, service, monkeypatch) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU", "http://127.0.0.1:9/")
    monkeypatch.setenv("CLOUDSDK_CORE_HTTP_TIMEOUT", "1")
    launcher = cloud.launcher()
    world, _ = launcher.look()
    assert world.resource == "UNKNOWN", world


def test_script_is_run_once_and_its_code_comes_back(cloud, service) -> None:
    launcher = cloud.launcher()
    capacity.create(launcher)
    line = commands.ssh(launcher.spec, "us-west4-a", "tpu", 0, "echo once >> asked; exit 3")
    assert Runner().run(line).code == 3
    (asked,) = Path(cloud.folder / "homes").glob("*/asked")
    assert asked.read_text() == "once\n"
