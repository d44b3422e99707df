"""Verbs that only look: status and logs."""

import subprocess
import time

from launch import commands, scripts
from launch.errors import LaunchError
from launch.launcher import Launcher
from launch.machine import Decision, World, decide


def status_lines(launcher: Launcher, world: World, decision: Decision) -> list[str]:
    """Returns what `status` says: the word, the TPU, the runs, progress, money."""
    spec, record = launcher.spec, launcher.history.read()
    hours = (time.time() - record.paid_since) / 3600 if record.paid_since else 0.0
    lines = [f"{decision.word} {decision.reason}".strip(), f"{spec.name}: {world.resource}"]
    lines += [f"  {n.name}: {n.state} {n.health}, {n.num_workers} workers" for n in world.nodes]
    for index, worker in enumerate(world.workers):
        code = f" with {worker.code}" if worker.state == "exited" else ""
        lines.append(f"  worker {index}: {worker.state}{code}, {worker.seconds:.0f} s")
    if world.progress:
        known = ("stage", "label", "step", "total_steps", "loss", "state", "attempt", "revision")
        told = (f"{k} {world.progress[k]}" for k in known if k in world.progress)
        lines.append(f"  progress: {', '.join(told)}; {world.progress_seconds:.0f} s ago")
    cost = f"at most ${hours * spec.dollars_per_hour:.2f} so far"
    lines.append(f"  {record.restarts} restarts, {hours:.1f} hours, {cost}")
    return lines


def show_status(launcher: Launcher) -> Decision:
    """Prints what is and what `watch` would do about it."""
    world, past = launcher.look()
    decision = decide(launcher.spec, world, past)
    for line in status_lines(launcher, world, decision):
        launcher.say(line)
    return decision


def show_logs(
    launcher: Launcher, worker: int | None, num_lines: int, follow: bool, tpu: bool
) -> int:
    """Prints logs: of one worker, or with `worker` None of all, each line with its worker."""
    hosts = launcher.ready_hosts()
    line, spec = scripts.logs(launcher.spec, num_lines, follow, tpu), launcher.spec
    orders = [commands.ssh(spec, h.zone, h.node, h.worker, line) for h in hosts]
    if worker is not None:
        if not 0 <= worker < len(hosts):
            raise LaunchError(f"--worker {worker}: there are {len(hosts)}, from 0")
        return subprocess.run(orders[worker], stdin=subprocess.DEVNULL).returncode
    results = launcher.runner.run_all(orders)
    for index, result in enumerate(results):
        for text in result.out.splitlines():
            print(f"[w{index}] {text}")
    return 0
