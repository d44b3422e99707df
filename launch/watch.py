"""The babysitter: looks, decides, acts, until the run is done; `up` is its first part.

It may be killed and started again at any moment: all it knows is in the world and in the history,
which is written before each action.
"""

import time

from launch.capacity import create, delete, down
from launch.errors import LaunchError
from launch.gcloud import STOP, classify
from launch.launcher import Launcher
from launch.machine import Action, Decision, Past, World, decide
from launch.observation import hosts_of
from launch.reports import show_logs
from launch.workers import fetch, start, stop

_ENDS = (Action.DONE, Action.FAIL, Action.LIMIT)
_CODES = {Action.DONE: 0, Action.FAIL: 1, Action.LIMIT: 4}
_MOST_FAILURES = 5  # in a row, of starting a run on TPUs that are there


def watch(launcher: Launcher, until_ready: bool = False) -> int:
    """Creates what is not there, runs, re-creates and resumes until the run has ended.

    Args:
        launcher: the launch.
        until_ready: return 0 as soon as all workers answer; nothing is run.

    Returns:
        0 done, 1 the run failed by its own fault, 4 a limit was reached or the launch was closed.

    Raises:
        LaunchError: when going on is no use.
    """
    launcher.history.open()
    told, failures = "", 0
    while True:
        world, past = launcher.look()
        _check_rights(world, past)
        if world.workers:
            _note_capacity(launcher)
        decision = decide(launcher.spec, world, past)
        told = _tell(launcher, decision, told)
        if closed := launcher.history.read().closed:
            launcher.say(f"this launch is over: {closed}")
            return _CODES[Action.LIMIT]
        if until_ready and world.workers and decision.word != "LOST":
            return 0
        if decision.action in _ENDS:
            return _end(launcher, world, decision)
        try:
            _act(launcher, world, decision)
            failures = 0
        except LaunchError as error:
            failures += 1
            if error.code != 1 or failures == _MOST_FAILURES:
                raise
            launcher.say(str(error))
        launcher.sleep(launcher.poll_seconds)


def _check_rights(world: World, past: Past) -> None:
    """Ends a launch that has not begun; one that has waits for the rights to come back.

    Raises:
        LaunchError: with the meaning of gcloud's answer.
    """
    answer = classify(world.reason)
    if world.resource == "UNKNOWN" and answer in STOP and not past.paid_seconds:
        raise LaunchError(f"{answer.value}: {world.reason}", 2)


def run(launcher: Launcher, replace: bool) -> None:
    """Starts the run on a TPU that is there, once; `watch` goes on from it.

    Raises:
        LaunchError: when the TPU is not ready, or a run is there and not to be replaced.
    """
    hosts = launcher.ready_hosts()
    world, _ = launcher.look()
    if any(worker.state == "running" for worker in world.workers) and not replace:
        raise LaunchError(f"a run is alive on {launcher.spec.name}; --replace stops it first")
    if any(worker.state == "unreachable" for worker in world.workers):
        raise LaunchError("not all workers answer; try again", 1)
    assert len(hosts) == len(world.workers)
    launcher.history.open()
    start(launcher, world)


def _tell(launcher: Launcher, decision: Decision, told: str) -> str:
    line = f"{decision.word} {decision.reason}".strip()
    if decision.action not in (Action.WAIT, *_ENDS):
        line += f" -> {decision.action.value}"
    if line != told:
        launcher.say(line)
    return line


def _try_to_stop(launcher: Launcher, world: World) -> None:
    """A worker that cannot be stopped is no reason to go on paying."""
    try:
        stop(launcher, hosts_of(world))
    except LaunchError as error:
        launcher.say(str(error))


def _note_capacity(launcher: Launcher) -> None:
    """From now on it costs, and nothing is waited for."""
    record = launcher.history.read()
    if record.asked_at or not record.paid_since:
        launcher.history.change(asked_at=0.0, paid_since=record.paid_since or time.time())


def _act(launcher: Launcher, world: World, decision: Decision) -> None:
    record = launcher.history.read()
    if decision.action is Action.CREATE:
        create(launcher)
    if decision.action is Action.DELETE:
        launcher.history.change(device_failures=0)
        delete(launcher, world.zone)
    if decision.action is Action.START:
        is_broken = decision.word == "FAILED"  # the device, or the run would have ended the launch
        launcher.history.change(
            restarts=record.restarts + decision.is_restart,
            device_failures=record.device_failures + is_broken,
        )
        start(launcher, world)


def _end(launcher: Launcher, world: World, decision: Decision) -> int:
    """Saves what there is, and deletes what costs money where the spec says so."""
    spec, keeps = launcher.spec, launcher.spec.on_done == "keep"
    if decision.action is Action.FAIL and world.workers:
        show_logs(launcher, None, num_lines=30, follow=False, tpu=False)
    if decision.action is Action.LIMIT:
        keeps = False
        if world.workers:
            _try_to_stop(launcher, world)
    if spec.mode == "existing" or keeps or world.resource == "ABSENT":
        launcher.history.change(closed=decision.reason)
        return _CODES[decision.action]
    if world.workers and not spec.workdir:
        fetch(launcher, world.zone)
    down(launcher, decision.reason)
    return _CODES[decision.action]
