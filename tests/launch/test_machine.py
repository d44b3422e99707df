"""The state machine, row by row; and what gcloud's words mean."""

import dataclasses

import pytest

from launch.gcloud import Answer, classify
from launch.machine import Action, Node, Past, Worker, World, decide
from launch.spec import Spec

SPEC = Spec(
    name="a", accelerator="v5e-8", zones=("z-a",), max_hours=10, max_wait_hours=2, max_restarts=3
)
READY = (Node("a", "READY", num_workers=2),)
HOUR = 3600.0


def active(*workers: Worker, nodes=READY, **facts) -> World:
    return World("ACTIVE", zone="z-a", nodes=nodes, workers=workers, **facts)


def running(seconds: float = 60.0) -> Worker:
    return Worker("running", seconds=seconds)


def ended(code: int, seconds: float = 1000.0, infra: bool = False) -> Worker:
    return Worker("exited", code, seconds, infra)


NONE, LOST, SILENT = Worker("none"), Worker("lost"), Worker("unreachable")
FRESH = {"progress": {"step": 5}, "progress_seconds": 5.0}
STALE = {"progress": {"step": 5}, "progress_seconds": 2 * HOUR}

TABLE = [
    # what is seen -> action, word, whether it counts
    (World("UNKNOWN", "503"), Action.WAIT, "UNKNOWN", False),
    (World("ABSENT"), Action.CREATE, "ABSENT", False),
    (World("WAITING_FOR_RESOURCES"), Action.WAIT, "WAITING", False),
    (World("PROVISIONING"), Action.WAIT, "WAITING", False),
    (World("DELETING"), Action.WAIT, "WAITING", False),
    (World("SUSPENDING"), Action.WAIT, "WAITING", False),
    (World("SUSPENDED"), Action.DELETE, "PREEMPTED", False),
    (World("FAILED", "stockout"), Action.DELETE, "PREEMPTED", False),
    (World("FAILED", "Quota limit 'x'"), Action.FAIL, "FAILED", False),
    (World("SOMETHING_NEW"), Action.WAIT, "UNKNOWN", False),
    (active(nodes=(Node("a", "PREEMPTED"),)), Action.DELETE, "PREEMPTED", False),
    (active(nodes=(Node("a", "TERMINATED"),)), Action.DELETE, "PREEMPTED", False),
    (active(nodes=(*READY, Node("b", "ABSENT"))), Action.DELETE, "PREEMPTED", False),
    (active(nodes=(Node("a", "STOPPED"),)), Action.FAIL, "FAILED", False),
    (active(nodes=(Node("a", "CREATING"),)), Action.WAIT, "WAITING", False),
    (active(nodes=(Node("a", "REPAIRING"),)), Action.WAIT, "WAITING", False),
    (active(nodes=(Node("a", "NEW_WORD"),)), Action.WAIT, "WAITING", False),
    (
        active(nodes=(Node("a", "READY", "UNHEALTHY_MAINTENANCE"),)),
        *(Action.WAIT, "WAITING", False),
    ),
    (active(NONE, NONE), Action.START, "STARTING", False),
    (active(running(), NONE), Action.START, "LOST", True),
    (active(running(), running()), Action.WAIT, "RUNNING", False),
    (active(running(), running(), **FRESH), Action.WAIT, "RUNNING", False),
    (active(running(2 * HOUR), running(2 * HOUR), **FRESH), Action.WAIT, "RUNNING", False),
    (active(running(2 * HOUR), running(2 * HOUR), **STALE), Action.START, "STALLED", True),
    (active(running(2 * HOUR), running(2 * HOUR)), Action.START, "STALLED", True),
    (active(running(), running(), **STALE), Action.WAIT, "RUNNING", False),  # of the run before
    (active(running(), SILENT), Action.WAIT, "LOST", False),
    (active(ended(0), ended(0)), Action.DONE, "DONE", False),
    (active(ended(0), running()), Action.WAIT, "RUNNING", False),
    (active(ended(1), ended(134)), Action.FAIL, "FAILED", False),
    (active(ended(2), ended(2)), Action.FAIL, "FAILED", False),
    (active(ended(2), running()), Action.FAIL, "FAILED", False),
    (active(ended(1, infra=True), ended(134)), Action.START, "FAILED", True),
    (active(ended(3), ended(3)), Action.START, "FAILED", True),
    *[
        (active(ended(code), ended(code)), Action.START, "PREEMPTED", True)
        for code in (42, 134, 137, 139, 143, 254)
    ],
    (active(LOST, ended(134)), Action.START, "PREEMPTED", True),
    (active(ended(137, 30), running()), Action.WAIT, "STOPPING", False),
    (active(ended(137, 300), running()), Action.START, "PREEMPTED", True),
]


@pytest.mark.parametrize(("world", "action", "word", "counts"), TABLE)
def test_what_is_done(world: World, action: Action, word: str, counts: bool) -> None:
    decision = decide(SPEC, world, Past())
    assert (decision.action, decision.word, decision.is_restart) == (action, word, counts)


@pytest.mark.parametrize("world", [row[0] for row in TABLE])
def test_nothing_is_created_unless_it_is_certainly_absent(world: World) -> None:
    action = decide(SPEC, world, Past()).action
    assert (action is Action.CREATE) == (world.resource == "ABSENT")


@pytest.mark.parametrize("world", [row[0] for row in TABLE])
def test_what_is_not_ours_is_neither_created_nor_deleted(world: World) -> None:
    spec = dataclasses.replace(SPEC, mode="existing")
    assert decide(spec, world, Past()).action not in (Action.CREATE, Action.DELETE)


@pytest.mark.parametrize("world", [row[0] for row in TABLE])
def test_time_that_was_paid_for_is_never_exceeded(world: World) -> None:
    past = Past(paid_seconds=11 * HOUR)
    assert decide(SPEC, world, past).action is Action.LIMIT


@pytest.mark.parametrize("world", [row[0] for row in TABLE if row[3]])
def test_restarts_are_bounded(world: World) -> None:
    assert decide(SPEC, world, Past(restarts=2)).action is Action.START
    assert decide(SPEC, world, Past(restarts=3)).action is Action.LIMIT


def test_recreation_counts_and_a_finished_run_is_not_made_again() -> None:
    again = decide(SPEC, World("ABSENT"), Past(is_recreation=True))
    assert again.action is Action.CREATE and again.is_restart
    assert decide(SPEC, World("ABSENT"), Past(is_recreation=True, restarts=3)).word == "FAILED"
    assert decide(SPEC, World("ABSENT"), Past(is_recreation=True, finished=True)).word == "DONE"


def test_waiting_for_capacity_ends() -> None:
    for state in ("WAITING_FOR_RESOURCES", "ABSENT"):
        past = Past(waited_seconds=3 * HOUR)
        assert decide(SPEC, World(state), past).action is Action.LIMIT


@pytest.mark.parametrize("code", [0, 1, 42])
def test_end_of_an_earlier_launch_is_no_end_of_this_one(code: int) -> None:
    past = Past(has_started=False)
    assert decide(SPEC, active(ended(code), NONE), past).action is Action.START
    assert decide(SPEC, active(running(), running()), past).word == "RUNNING"


@pytest.mark.parametrize("world", [active(ended(3)), active(ended(1, infra=True))])
def test_tpu_that_is_broken_twice_is_deleted(world: World) -> None:
    assert decide(SPEC, world, Past(device_failures=1)).action is Action.DELETE


def test_worker_that_never_answers_again_is_replaced() -> None:
    past = Past(unreachable_seconds=2 * HOUR)
    assert decide(SPEC, active(SILENT, running()), past).action is Action.DELETE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("ERROR: (gcloud.x.create) ALREADY_EXISTS: Resource 'a' already exists", Answer.EXISTS),
        ("ERROR: (gcloud.x.describe) NOT_FOUND: Resource 'a' was not found", Answer.ABSENT),
        ('create) {\n  "code": 8,\n  "message": "There is no more capacity', Answer.NO_CAPACITY),
        ("RESOURCE_EXHAUSTED: Quota limit 'X' has been exceeded. Limit: 0", Answer.QUOTA),
        ("PERMISSION_DENIED: Permission 'tpu.nodes.create' denied", Answer.DENIED),
        ("UNAUTHENTICATED: Request had invalid credentials", Answer.SIGNED_OUT),
        ("You do not currently have an active account selected.", Answer.SIGNED_OUT),
        ("Failed to find attribute [project]. The attribute can be", Answer.NO_PROJECT),
        ("The required property [project] is not currently set", Answer.NO_PROJECT),
        ("INVALID_ARGUMENT: Cloud TPU received a bad request", Answer.INVALID),
        ("HttpError accessing <https://x>: response: <{'status': '503'}>", Answer.TRANSIENT),
        ("HttpError accessing <https://x>: response: <{'status': 503}>", Answer.TRANSIENT),
        ("timed out after 900 s", Answer.TRANSIENT),
        ("Traceback (most recent call last): who knows", Answer.UNKNOWN),
        ("", Answer.UNKNOWN),
    ],
)
def test_words_of_gcloud(text: str, answer: Answer) -> None:
    assert classify(text) is answer
