"""Whole lives of a launch against a scripted gcloud: stock-outs, preemptions, killed watchers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import capacity, plan, reports, workers
from launch.errors import LaunchError
from launch.watch import run, watch

ROOT = Path(__file__).resolve().parents[2]
STOCK_OUT = '{\n  "code": 8,\n  "message": "There is no more capacity in the zone"\n}'
QUOTA = "RESOURCE_EXHAUSTED: Quota limit 'TPUV5s' has been exceeded. Limit: 0 in zone z."
DENIED = "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied"
NO_PROJECT = "ERROR: (gcloud.x) Failed to find attribute [project]. The attribute can be set"
NO_SERVICE = "HttpError accessing <https://x>: response: <{'status': 503}>, content <>"


def finish(cloud, launcher) -> None:
    assert watch(launcher) == 0, launcher.said
    assert cloud.state == {"queued": {}, "nodes": {}}


@pytest.mark.slow
def test_watch_creates_runs_and_deletes(cloud) -> None:
    launcher = cloud.launcher()
    finish(cloud, launcher)
    assert cloud.counts("create") == 1
    assert '"step": 3' in (cloud.workdir / "progress.json").read_text()
    assert (cloud.workdir / "logs/1/worker-0.log").read_text() == "from step 0 expects 4\n"
    assert launcher.history.read().closed == "all workers ended with 0"


@pytest.mark.slow
def test_verbs_one_by_one(cloud) -> None:
    launcher = cloud.launcher(steps=100_000)
    assert watch(launcher, until_ready=True) == 0
    assert watch(launcher, until_ready=True) == 0 and cloud.counts("create") == 1
    hosts = launcher.ready_hosts()
    code = workers.sync(launcher, hosts)
    assert (cloud.home() / ".recjax/code" / code.tree / "recjax/main.py").exists()
    workers.sync(launcher, hosts)
    assert cloud.counts("scp") == 1, "what is there is not sent again"
    workers.setup(launcher, hosts)
    workers.setup(launcher, hosts)
    assert len((cloud.home() / "uv.log").read_text().splitlines()) == 2, "venv and install, once"
    run(launcher, replace=False)
    assert reports.show_status(launcher).word == "RUNNING"
    with pytest.raises(LaunchError, match="a run is alive .* --replace"):
        run(launcher, replace=False)
    run(launcher, replace=True)
    workers.stop(launcher, hosts)
    assert reports.show_status(launcher).reason == "the run ended with 42"
    assert '"state": "interrupted"' in (cloud.workdir / "progress.json").read_text()
    capacity.down(launcher)
    capacity.down(launcher)
    assert cloud.state["nodes"] == {}


@pytest.mark.slow
def test_logs_of_all_workers_have_their_number(cloud, monkeypatch, capfd) -> None:
    monkeypatch.setenv("FAKE_HOSTS", "4")
    launcher = cloud.launcher(accelerator="v5e-16", on_done="keep")
    assert watch(launcher) == 0
    assert reports.show_logs(launcher, None, 10, False, False) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines == [f"[w{index}] from step 0 expects 16" for index in range(4)]
    assert reports.show_logs(launcher, 3, 10, False, False) == 0
    assert capfd.readouterr().out == "from step 0 expects 16\n"
    with pytest.raises(LaunchError, match="there are 4"):
        reports.show_logs(launcher, 4, 10, False, False)


@pytest.mark.slow
def test_two_slices_of_two_hosts(cloud, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_HOSTS", "2")
    (launcher) = cloud.launcher(accelerator="v5e-8", slices=2)
    finish(cloud, launcher)
    assert sorted(p.name for p in cloud.workdir.glob("saved-*")) == [f"saved-{i}" for i in range(4)]


# ---- what gcloud may say to `create` ----


def test_stock_out_twice_asks_the_next_zones(cloud) -> None:
    cloud.fail("create", STOCK_OUT, times=2)
    launcher = cloud.launcher(mode="direct", zones=("us-west4-a", "us-east5-b"))
    finish(cloud, launcher)
    zones = [w for call in cloud.calls if "create" in call for w in call if "--zone" in w]
    assert zones == ["--zone=us-west4-a", "--zone=us-east5-b", "--zone=us-west4-a"]
    assert launcher.history.read().restarts == 0


@pytest.mark.parametrize(("error", "message"), [(QUOTA, "quota"), (DENIED, "lacks the right")])
def test_what_asking_again_cannot_change_ends_it(cloud, error: str, message: str) -> None:
    cloud.fail("create", error)
    with pytest.raises(LaunchError, match=message):
        watch(cloud.launcher())
    assert cloud.counts("create") == 1


@pytest.mark.parametrize(
    ("error", "message"), [(DENIED, "lacks the right"), (NO_PROJECT, "config set project")]
)
def test_launch_without_rights_or_project_is_told_at_the_first_look(cloud, error, message) -> None:
    cloud.fail("describe", error)
    with pytest.raises(LaunchError, match=message):
        watch(cloud.launcher())
    assert cloud.counts("create") == 0


@pytest.mark.slow
def test_rights_that_are_lost_on_the_way_are_waited_for(cloud) -> None:
    launcher = cloud.launcher(steps=100_000)

    def lose_both() -> None:
        cloud.change(nodes="PREEMPTED")
        cloud.fail("describe", DENIED, times=2)

    Events(cloud, launcher, lose_both)
    finish(cloud, launcher)
    assert any("PERMISSION_DENIED" in line for line in launcher.said)


def test_uncertain_answers_are_waited_for(cloud) -> None:
    cloud.fail("describe", NO_SERVICE, times=3)
    cloud.fail("create", NO_SERVICE)
    launcher = cloud.launcher()
    finish(cloud, launcher)
    first = [word for call in cloud.calls for word in ("describe", "create") if word in call]
    assert first[:5] == ["describe"] * 4 + ["create"], "never create while the answer is unknown"


@pytest.mark.slow
def test_same_name_of_another_type_is_refused_and_left(cloud) -> None:
    assert watch(cloud.launcher(), until_ready=True) == 0
    for verb in (watch, capacity.down):
        with pytest.raises(LaunchError, match="tpu exists and is a v5litepod-4, the spec says v5"):
            verb(cloud.launcher(accelerator="v5e-8"))
    assert "tpu" in cloud.state["nodes"]


@pytest.mark.slow
def test_existing_tpu_is_used_and_left(cloud) -> None:
    assert watch(cloud.launcher(mode="direct"), until_ready=True) == 0
    launcher = cloud.launcher(mode="existing")
    assert watch(launcher) == 0
    with pytest.raises(LaunchError, match="not ours"):
        capacity.down(launcher)
    assert list(cloud.state["nodes"]) == ["tpu"] and cloud.counts("delete") == 0


def test_existing_tpu_that_is_not_there_ends_it(cloud) -> None:
    assert watch(cloud.launcher(mode="existing")) == 1
    assert cloud.counts("create") == 0


# ---- what may happen to a run ----


class Events:
    """Does something to the cloud in place of sleeping, once the run, which would never end, is on
    its way; the next run ends at once."""

    def __init__(self, cloud, launcher, event) -> None:
        self.cloud, self.launcher, self.event = cloud, launcher, event
        launcher.sleep = self

    def __call__(self, seconds: float) -> None:
        time.sleep(seconds)
        saved = self.cloud.workdir / "saved-0"
        if self.event and saved.exists() and int(saved.read_text()) > 5:
            self.event()
            self.event = None
            self.launcher.arguments = ["--config=x", "--steps=5"]


@pytest.mark.parametrize(
    "event", [{"nodes": "PREEMPTED"}, pytest.param({"queued": "SUSPENDED"}, marks=pytest.mark.slow)]
)
def test_preempted_tpu_is_made_again_and_the_run_goes_on(cloud, event: dict) -> None:
    launcher = cloud.launcher(steps=100_000)
    Events(cloud, launcher, lambda: cloud.change(**event))
    finish(cloud, launcher)
    assert cloud.counts("create") == 2 and launcher.history.read().restarts == 1
    log = (cloud.workdir / "logs/2/worker-0.log").read_text()
    assert not log.startswith("from step 0 "), "it went on from what was saved"


@pytest.mark.slow
def test_run_that_was_stopped_on_one_worker_is_started_on_all(cloud, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_HOSTS", "2")
    launcher = cloud.launcher(accelerator="v5e-8", steps=100_000, heartbeat_seconds=-119)

    def stop_one() -> None:
        folder = cloud.home(1) / ".recjax/runs/tpu"
        subprocess.run(["bash", ROOT / "launch/remote/stop.sh", folder, "5"], check=True)

    Events(cloud, launcher, stop_one)
    finish(cloud, launcher)
    assert cloud.counts("create") == 1 and launcher.history.read().restarts == 1


def test_own_fault_of_the_run_ends_the_launch(cloud, capsys) -> None:
    launcher = cloud.launcher(code=2)
    assert watch(launcher) == 1
    assert cloud.counts("create") == 1 and cloud.state["nodes"] == {}
    assert "[w0] from step 0" in capsys.readouterr().out, "the end of the log is shown"


@pytest.mark.slow
def test_launch_on_a_tpu_that_was_kept_runs_again(cloud) -> None:
    assert watch(cloud.launcher(code=1, on_done="keep")) == 1
    assert watch(cloud.launcher(steps=20, on_done="keep")) == 0
    finish(cloud, cloud.launcher(steps=40))
    assert '"step": 40' in (cloud.workdir / "progress.json").read_text()
    assert cloud.counts("create") == 1


@pytest.mark.slow
def test_gcloud_is_never_given_255(cloud) -> None:
    launcher = cloud.launcher(code=255, max_restarts=0)
    assert watch(launcher) == 4
    assert "the run ended with 254" in " ".join(launcher.said)


@pytest.mark.slow
def test_time_that_is_over_stops_saves_and_deletes(cloud) -> None:
    launcher = cloud.launcher(steps=100_000, max_hours=1.5 / 3600, on_done="keep")
    assert watch(launcher) == 4
    assert '"state": "interrupted"' in (cloud.workdir / "progress.json").read_text()
    assert cloud.state["nodes"] == {}


@pytest.mark.slow
def test_results_on_the_vm_are_fetched_before_it_goes(cloud) -> None:
    launcher = cloud.launcher(workdir="")
    finish(cloud, launcher)
    assert '"step": 3' in (cloud.checkout / "runs/tpu/progress.json").read_text()


@pytest.mark.slow
def test_run_that_deletes_itself_when_nobody_watches_is_not_made_again(cloud, monkeypatch) -> None:
    monkeypatch.setenv("RECJAX_AT_END_SECONDS", "0")
    launcher = cloud.launcher()
    watch(launcher, until_ready=True)
    run(launcher, replace=False)
    deadline = time.monotonic() + 20
    while cloud.state["nodes"] and time.monotonic() < deadline:
        time.sleep(0.05)
    finish(cloud, launcher)
    assert cloud.counts("create") == 1
    assert "the TPU is gone" in launcher.said[-1]


@pytest.mark.slow
def test_down_elsewhere_ends_a_watcher(cloud) -> None:
    launcher = cloud.launcher(steps=100_000)
    Events(cloud, launcher, lambda: capacity.down(cloud.launcher()))
    assert watch(launcher) == 4
    assert cloud.counts("create") == 1 and "taken down" in launcher.said[-1]


@pytest.mark.slow
def test_secrets_reach_the_run_and_no_command_line(cloud, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "hush hush")
    finish(cloud, cloud.launcher(secret_env=("TOKEN",)))
    assert '"secret": "hush hush"' in (cloud.workdir / "progress.json").read_text()
    assert not any("hush" in word for call in cloud.calls for word in call)
    monkeypatch.delenv("TOKEN")
    with pytest.raises(LaunchError, match="TOKEN not in this environment"):
        watch(cloud.launcher(secret_env=("TOKEN",)))


@pytest.mark.slow
def test_changed_files_are_sent_and_named(cloud) -> None:
    launcher = cloud.launcher()
    program = cloud.checkout / "recjax/main.py"
    program.write_text(program.read_text() + "\n# changed\n")
    (cloud.checkout / "new.py").touch()
    finish(cloud, launcher)
    assert '-dirty"' in (cloud.workdir / "progress.json").read_text()
    assert "1 files that git does not know stay here" in launcher.said


@pytest.mark.slow
def test_code_that_arrives_broken_is_not_used(cloud, monkeypatch) -> None:
    monkeypatch.setattr(workers, "write_archive", lambda code, path: path.write_text("x") * "0")
    launcher = cloud.launcher()
    watch(launcher, until_ready=True)
    with pytest.raises(LaunchError, match="not all workers said 'recjax: synced"):
        workers.sync(launcher, launcher.ready_hosts())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chips": 3}, "7 TPU chips on 2 workers, the spec says 8"),
        ({"versions": {"jax": "0"}}, "versions differ"),
        ({"time": 99.0}, "clocks"),
        ({"write_error": "full"}, "worker 1 cannot write: full"),
    ],
)
def test_hosts_that_differ_are_refused(change: dict, message: str) -> None:
    good = {"versions": {"jax": "1"}, "chips": 4, "time": 0.0, "write_error": ""}
    assert workers.compare_hosts([good, good], 8) == []
    assert message in " ".join(workers.compare_hosts([good, good | change], 8))


# ---- money ----


@pytest.mark.slow
def test_reap_deletes_what_is_over_and_ours_alone(cloud) -> None:
    watch(cloud.launcher(), until_ready=True)
    watch(cloud.launcher(name="alone", mode="direct"), until_ready=True)
    reaper = cloud.launcher(name="other")
    assert capacity.reap(reaper, time.time()) == 0
    assert capacity.reap(reaper, time.time() + 11 * 3600) == 2
    assert cloud.state == {"queued": {}, "nodes": {}}
    assert not capacity._is_over({"recjax-expires": "1"}, 5), "not ours"


@pytest.mark.slow
def test_doctor_names_what_is_missing(cloud) -> None:
    launcher = cloud.launcher(zones=("us-west4-a",))
    said: list[str] = []
    assert plan.doctor(launcher.spec, launcher.runner, said.append) == 0, said
    cloud.fail("storage", DENIED)
    assert plan.doctor(launcher.spec, launcher.runner, said.append) == 1
    assert said[-2].startswith("NO  bucket: the account lacks the right")
    far = cloud.launcher(zones=("us-east5-b",))
    assert plan.doctor(far.spec, far.runner, said.append) == 1
    assert "NO  bucket: it lies in us-west4, the TPU in us-east5" in said[-2]


def command(cloud, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in the checkout, with a spec file."""
    (cloud.folder / "spec.py").write_text(
        "from launch.spec import Spec\n"
        "def get_spec():\n"
        "    return Spec(name='tpu', accelerator='v5e-4', zones=('us-west4-a',),"
        " workdir='gs://bucket/run')\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "launch", *words],
        cwd=cloud.checkout,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def watch_words(cloud, steps: int) -> list[str]:
    options = [f"--spec={cloud.folder}/spec.py", "--poll=0.02", "--yes"]
    return ["watch", *options, "--", "--config=x", f"--steps={steps}"]


def test_nothing_that_costs_is_started_unasked(cloud) -> None:
    words = [word for word in watch_words(cloud, 3) if word != "--yes"]
    done = command(cloud, *words)
    assert done.returncode == 2 and "this costs money: --yes" in done.stderr
    assert "at most $4.80 an hour" in done.stdout and cloud.calls == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["watch"], "watch needs --spec"),
        (["up", "--spec=SPEC", "--", "--config=x"], "up takes no arguments of recjax.main"),
        (["watch", "--spec=SPEC", "--", "--workdir=x"], "the spec says where"),
        (["run", "--spec=SPEC"], "what is to be run"),
        (["watch", "--spec=SPEC", "--set=workdir=gs://BUCKET/x", "--", "--config=x"], "your buck"),
        (["up", "--spec=SPEC", "--set=workdir=", "--set=capacity=spot"], "spot loses"),
        (["run", "--spec=SPEC", "--", "--config=x"], "tpu is not ready: ABSENT"),
    ],
)
def test_command_lines_that_are_refused(cloud, words: list[str], message: str) -> None:
    done = command(cloud, *(word.replace("SPEC", f"{cloud.folder}/spec.py") for word in words))
    assert done.returncode in (2, 4) and message in done.stderr, done.stderr


@pytest.mark.parametrize(
    "call", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, *range(3, 16)))]
)
def test_watcher_killed_at_any_call_goes_on_when_started_again(cloud, call: int) -> None:
    """The call is carried out though nobody hears its answer: the worst case."""
    (cloud.folder / "kill_at").write_text(str(call))
    first = command(cloud, *watch_words(cloud, 10))
    assert first.returncode == -9, first.stderr
    second = command(cloud, *watch_words(cloud, 10))
    assert second.returncode == 0, second.stdout + second.stderr
    assert cloud.state == {"queued": {}, "nodes": {}}
    assert '"step": 10' in (cloud.workdir / "progress.json").read_text()
    assert cloud.counts("create") <= 2, "twice only where it was killed at the first"


def test_second_watcher_of_the_same_launch_is_refused(cloud) -> None:
    launcher = cloud.launcher()
    launcher.history.path = cloud.checkout / "runs/launch/tpu.json"
    with launcher.history.locked():
        done = command(cloud, *watch_words(cloud, 3))
    assert done.returncode == 2 and "another launcher is at work on tpu" in done.stderr
