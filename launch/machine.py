"""What to do next, from what is seen: a pure function, no I/O, table-tested.

    resource          nodes                    workers                     -> action
    unknown           -                        -                              wait; never create
    absent            -                        -                              create
    waiting           -                        -                              wait; max_wait_hours
    failed, suspended -                        -                              delete
    active            preempted, missing       -                              delete
    active            starting, in maintenance -                              wait
    active            ready                    none has a run                 start
    active            ready                    all run, progress is fresh     wait
    active            ready                    all run, no progress           start (stops first)
    active            ready                    all ended with 0               done
    active            ready                    1 or 2 (the run's own fault)   fail
    active            ready                    3, or a busy or broken TPU     start, then delete
    active            ready                    42, 134, 137, 139, 143, ...    start

Whatever is done is derived from the world alone, so that a watcher can be killed at any moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from launch.gcloud import STOP, classify
from launch.spec import Spec

WAITING = (
    "CREATING",
    "ACCEPTED",
    "PROVISIONING",
    "WAITING_FOR_RESOURCES",
    "DELETING",
    "SUSPENDING",
)
_GONE = ("PREEMPTED", "TERMINATED", "ABSENT")
_OWN_FAULT, _WRONG_DEVICES = (1, 2), 3
_NO_CAPACITY = "max_wait_hours is over, still no capacity"
_GRACE_SECONDS = 120.0  # beyond the heartbeat: the others end by themselves


class Action(Enum):
    """What is to be done."""

    WAIT = "wait"
    CREATE = "create"
    DELETE = "delete"
    START = "start"
    DONE = "done"
    FAIL = "fail"
    LIMIT = "limit"  # money, time or patience is at its end


@dataclass(frozen=True)
class Node:
    """One TPU VM: gcloud's words, and how many hosts it has."""

    name: str
    state: str
    health: str = "HEALTHY"
    num_workers: int = 1


@dataclass(frozen=True)
class Worker:
    """The run on one host: none, running, exited, lost (its keeper is gone), unreachable."""

    state: str
    code: int = 0
    seconds: float = 0.0  # since it started, or ended
    infra: bool = False  # its log has the words of a busy or broken TPU


@dataclass(frozen=True)
class World:
    """What is seen at one moment.

    Attributes:
        resource: gcloud's state, "ABSENT", or "UNKNOWN" where the answer was not certain.
        reason: gcloud's words where it is unknown or failed.
        zone: where it is.
        nodes: its TPU VMs.
        workers: the runs, slice by slice, host by host.
        progress: progress.json of the work directory; empty where there is none.
        progress_seconds: its age.
    """

    resource: str
    reason: str = ""
    zone: str = ""
    nodes: tuple[Node, ...] = ()
    workers: tuple[Worker, ...] = ()
    progress: Mapping[str, Any] | None = None
    progress_seconds: float = 0.0


@dataclass(frozen=True)
class Past:
    """What happened before, from the history file."""

    has_started: bool = True  # this launch, a run
    is_recreation: bool = False  # there was a TPU, and no other one is asked for yet
    restarts: int = 0
    device_failures: int = 0
    waited_seconds: float = 0.0  # for a TPU, since one was asked for
    paid_seconds: float = 0.0  # since the first one was there
    unreachable_seconds: float = 0.0
    finished: bool = False  # the work directory says that this launch's run ended well


@dataclass(frozen=True)
class Decision:
    """What to do and why, with a word for `status`."""

    action: Action
    word: str
    reason: str
    is_restart: bool = False


def decide(spec: Spec, world: World, past: Past) -> Decision:
    """Returns what to do next."""
    if past.paid_seconds > spec.max_hours * 3600:
        return Decision(Action.LIMIT, "FAILED", f"max_hours = {spec.max_hours} is reached")
    decision = _decide(spec, world, past)
    if decision.is_restart and past.restarts >= spec.max_restarts:
        reason = f"{decision.reason}; max_restarts = {spec.max_restarts} is reached"
        return Decision(Action.LIMIT, "FAILED", reason)
    if spec.mode == "existing" and decision.action in (Action.CREATE, Action.DELETE):
        return Decision(Action.FAIL, decision.word, f"{decision.reason}; mode 'existing' leaves it")
    return decision


def _decide(spec: Spec, world: World, past: Past) -> Decision:
    if world.resource == "UNKNOWN":
        return Decision(Action.WAIT, "UNKNOWN", f"gcloud's answer is not certain: {world.reason}")
    if world.resource == "ABSENT":
        return _when_absent(spec, past)
    if world.resource in WAITING:
        if past.waited_seconds > spec.max_wait_hours * 3600:
            return Decision(Action.LIMIT, "FAILED", _NO_CAPACITY)
        return Decision(Action.WAIT, "WAITING", world.resource)
    if world.resource == "FAILED" and classify(world.reason) in STOP:
        return Decision(Action.FAIL, "FAILED", world.reason)
    if world.resource in ("FAILED", "SUSPENDED"):
        reason = f"the queued resource is {world.resource} {world.reason}".strip()
        return Decision(Action.DELETE, "PREEMPTED", reason)
    if world.resource != "ACTIVE":
        return Decision(Action.WAIT, "UNKNOWN", f"unknown state {world.resource}")
    return _look_at_nodes(world) or _look_at_run(spec, world, past)


def _when_absent(spec: Spec, past: Past) -> Decision:
    if past.finished:
        return Decision(Action.DONE, "DONE", "the run has ended well, the TPU is gone")
    if past.waited_seconds > spec.max_wait_hours * 3600:
        return Decision(Action.LIMIT, "FAILED", _NO_CAPACITY)
    return Decision(Action.CREATE, "ABSENT", "there is no TPU", is_restart=past.is_recreation)


def _look_at_nodes(world: World) -> Decision | None:
    for node in world.nodes:
        if node.state in _GONE:
            return Decision(Action.DELETE, "PREEMPTED", f"{node.name} is {node.state}")
        if node.state == "STOPPED":
            return Decision(Action.FAIL, "FAILED", f"{node.name} was stopped by somebody")
    for node in world.nodes:
        if node.state != "READY" or node.health not in ("HEALTHY", ""):
            return Decision(Action.WAIT, "WAITING", f"{node.name} is {node.state} {node.health}")
    return None


def _look_at_run(spec: Spec, world: World, past: Past) -> Decision:
    states = {worker.state for worker in world.workers}
    if "unreachable" in states:
        if past.unreachable_seconds > spec.idle_minutes * 60:
            return Decision(Action.DELETE, "LOST", "a worker does not answer, too long")
        return Decision(Action.WAIT, "LOST", "a worker does not answer")
    if states == {"none"} or not (past.has_started or "running" in states):
        return Decision(Action.START, "STARTING", "no worker has a run of this launch")
    if "none" in states:
        return Decision(Action.START, "LOST", "some workers have no run", is_restart=True)
    ended = [w for w in world.workers if w.state != "running"]
    if bad := [w for w in ended if w.code or w.state == "lost"]:
        return _after_failure(spec, world, past, bad)
    if len(ended) == len(world.workers):
        return Decision(Action.DONE, "DONE", "all workers ended with 0")
    return _while_running(spec, world)


def _after_failure(spec: Spec, world: World, past: Past, bad: list[Worker]) -> Decision:
    codes = ", ".join(sorted({"lost" if w.state == "lost" else str(w.code) for w in bad}))
    reason = f"the run ended with {codes}"
    if any(w.infra or w.code == _WRONG_DEVICES for w in bad):
        if past.device_failures:
            return Decision(Action.DELETE, "FAILED", f"{reason}, again: the TPU is broken")
        return Decision(Action.START, "FAILED", f"{reason}: busy or broken TPU", is_restart=True)
    if any(w.code in _OWN_FAULT for w in bad):
        return Decision(Action.FAIL, "FAILED", f"{reason}: not the TPU's fault, see the log")
    patience = spec.heartbeat_seconds + _GRACE_SECONDS
    if any(w.state == "running" for w in world.workers) and min(w.seconds for w in bad) < patience:
        return Decision(Action.WAIT, "STOPPING", f"{reason}, the others will end too")
    return Decision(Action.START, "PREEMPTED", reason, is_restart=True)


def _while_running(spec: Spec, world: World) -> Decision:
    running = [w.seconds for w in world.workers if w.state == "running"]
    idle = min(running) if world.progress is None else min(world.progress_seconds, *running)
    if idle > spec.idle_minutes * 60:
        reason = f"no progress for {idle / 60:.0f} minutes"
        return Decision(Action.START, "STALLED", reason, is_restart=True)
    return Decision(Action.WAIT, "RUNNING", "")
