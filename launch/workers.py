"""What is done to all workers of a TPU that is ready: sync, setup, start, stop, fetch."""

import json
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from launch import commands, scripts
from launch.archive import Code, find_code, write_archive
from launch.errors import LaunchError
from launch.launcher import Launcher
from launch.machine import World
from launch.observation import Host, hosts_of

_CLOCK_SECONDS = 30.0  # more apart, and ages of files say nothing


def sync(launcher: Launcher, hosts: Sequence[Host]) -> Code:
    """Brings the code to every host that does not have it; each checks its hash.

    The first contact is with one host alone: it hands out the ssh key, once.
    """
    code = find_code(launcher.folder)
    if code.untracked:
        launcher.say(f"{code.untracked} files that git does not know stay here")
    hello = scripts.greet(code.tree)
    said = launcher.on_all(hosts[:1], [hello], "recjax: ")
    said += launcher.on_all(hosts[1:], [hello] * len(hosts[1:]), "recjax: ")
    wanting = [h for h, line in zip(hosts, said, strict=True) if line.startswith("wanted")]
    if wanting:
        _send_code(launcher, code, wanting)
    launcher.say(f"code {code.revision} is on {len(hosts)} workers ({len(wanting)} sent)")
    return code


def _send_code(launcher: Launcher, code: Code, hosts: Sequence[Host]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, scripts.ARCHIVE)
        digest = write_archive(code, path)
        _send(launcher, hosts, str(path), scripts.ARCHIVE)
    line = scripts.unpack(code.tree, digest)
    launcher.on_all(hosts, [line] * len(hosts), f"recjax: synced {code.tree}")


def _send(launcher: Launcher, hosts: Sequence[Host], source: str, target: str) -> None:
    spec = launcher.spec
    results = launcher.runner.run_all(
        [commands.send(spec, h.zone, h.node, h.worker, source, target) for h in hosts]
    )
    for host, result in zip(hosts, results, strict=True):
        if result.code:
            raise LaunchError(f"scp to worker {host.worker} of {host.node}: {result.reason}", 1)


def setup(launcher: Launcher, hosts: Sequence[Host]) -> None:
    """Makes every host ready and compares them.

    Raises:
        LaunchError: when hosts differ, have other chips than the spec says, or cannot write.
    """
    spec = launcher.spec
    sums = launcher.on_all(hosts, [scripts.setup(spec)] * len(hosts), "recjax: ready")
    found = launcher.on_all(hosts, [scripts.preflight(spec)] * len(hosts), "recjax-preflight")
    facts = [json.loads(line) for line in found]
    for complaint in compare_hosts(facts, spec.hardware.chips * spec.slices):
        raise LaunchError(f"preflight: {complaint}")
    versions = ", ".join(f"{name} {v}" for name, v in facts[0]["versions"].items())
    launcher.say(f"{len(hosts)} workers are ready ({sums[0]}): {versions}")


def compare_hosts(facts: Sequence[dict], chips: int) -> list[str]:
    """Returns what is wrong with the hosts of one launch, by what each said of itself."""
    wrong = [f"worker {i} cannot write: {f['write_error']}" for i, f in enumerate(facts)]
    wrong = [text for text, f in zip(wrong, facts, strict=True) if f["write_error"]]
    if len({json.dumps(f["versions"], sort_keys=True) for f in facts}) > 1:
        wrong.append(f"versions differ: {[f['versions'] for f in facts]}")
    found = sum(f["chips"] for f in facts)
    if found not in (0, chips):  # 0: this image keeps its device files elsewhere; the run checks
        wrong.append(f"{found} TPU chips on {len(facts)} workers, the spec says {chips}")
    if max(f["time"] for f in facts) - min(f["time"] for f in facts) > _CLOCK_SECONDS:
        wrong.append("the clocks of the workers differ")
    return wrong


def start(launcher: Launcher, world: World) -> None:
    """Brings code and environment to all hosts and starts the run on each; all or none.

    What is left of an earlier run is stopped first. A launcher killed in here leaves a part of the
    hosts without a run, which the state machine sees.

    Raises:
        LaunchError: when a host does not start it; what did start is stopped again.
    """
    hosts = hosts_of(world)
    if any(worker.state != "none" for worker in world.workers):
        stop(launcher, hosts, forget=True)  # or old exit codes would be taken for new ones
    code = sync(launcher, hosts)
    setup(launcher, hosts)
    _send_secrets(launcher, hosts)
    record = launcher.history.change(started_at=time.time())
    facts = _facts(launcher, code, len(hosts), record.restarts, world.zone)
    lines = [scripts.start(launcher.spec, i, facts, launcher.arguments) for i in range(len(hosts))]
    try:
        launcher.on_all(hosts, lines, "recjax: started")
    except LaunchError:
        stop(launcher, hosts)
        raise
    launcher.say(f"the run is started on {len(hosts)} workers, attempt {record.restarts + 1}")


def _facts(launcher: Launcher, code: Code, count: int, restarts: int, zone: str) -> dict[str, str]:
    spec = launcher.spec
    attempt, ends = str(restarts + 1), spec.on_done == "delete" and spec.on_storage
    facts = {
        "RECJAX_REVISION": code.revision,
        "RECJAX_DIST": "force" if count > 1 else "off",
        "RECJAX_LOG_FOLDER": f"{scripts.folder_of(spec)}/logs/{attempt}",
    }
    if ends and spec.mode != "existing":
        facts["RECJAX_AT_END"] = shlex.join(commands.delete(spec, zone))
    return facts


def _send_secrets(launcher: Launcher, hosts: Sequence[Host]) -> None:
    names = launcher.spec.secret_env
    if missing := [name for name in names if name not in os.environ]:
        raise LaunchError(f"secret_env: {', '.join(missing)} not in this environment")
    if not names:
        return
    with tempfile.TemporaryDirectory() as folder:  # readable by this user only
        path = Path(folder, scripts.SECRETS)
        path.write_text("".join(f"{n}={shlex.quote(os.environ[n])}\n" for n in names))
        _send(launcher, hosts, str(path), scripts.SECRETS)
    line = f"{scripts.take_secrets(launcher.spec)} && echo recjax: taken"
    launcher.on_all(hosts, [line] * len(hosts), "recjax: taken")


def stop(launcher: Launcher, hosts: Sequence[Host], forget: bool = False) -> None:
    """Stops the run on all hosts at once and frees the chips."""
    line = scripts.stop(launcher.spec, forget)
    codes = launcher.on_all(hosts, [line] * len(hosts), "recjax: stopped")
    launcher.say(f"stopped; exit codes: {' '.join(codes)}")


def fetch(launcher: Launcher, zone: str) -> None:
    """Copies a work directory that lies on the VM's disk to runs/, before the VM goes."""
    spec = launcher.spec
    target = launcher.folder / "runs"
    target.mkdir(exist_ok=True)
    source = scripts.folder_of(spec).removeprefix("~/")
    result = launcher.runner.run(commands.fetch(spec, zone, source, str(target)))
    if result.code:
        raise LaunchError(f"could not fetch {source}: {result.reason}; nothing is deleted", 1)
    launcher.say(f"fetched {source} to {target}")
