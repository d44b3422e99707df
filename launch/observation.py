"""Asks gcloud and the workers what is, and puts it into a `World`; changes nothing."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from launch import commands, scripts
from launch.errors import LaunchError
from launch.gcloud import Answer, Result, Runner
from launch.machine import Node, Worker, World
from launch.spec import Spec

Json = dict[str, Any]


@dataclass(frozen=True)
class Host:
    """One host: which slice's VM, and its number there."""

    zone: str
    node: str
    worker: int


def observe(spec: Spec, runner: Runner) -> World:
    """Returns what is seen now: the resource, its VMs, the runs on them, their progress."""
    world = find_resource(spec, runner)
    if world.resource == "ACTIVE":
        world = add_nodes(spec, runner, world)
    if world.nodes and all(node.state == "READY" for node in world.nodes):
        return add_runs(spec, runner, world)
    return add_stored_progress(spec, runner, world) if world.resource == "ABSENT" else world


def find_resource(spec: Spec, runner: Runner) -> World:
    """Looks for the resource in every zone of the spec; one uncertain answer makes all unknown.

    Raises:
        LaunchError: when something else has its name; it is not touched.
    """
    for zone in spec.zones:
        result = runner.run(commands.describe(spec, zone))
        if result.answer is Answer.ABSENT:
            continue
        facts = read_json(result)
        if facts is None:
            return World("UNKNOWN", result.reason, zone)
        if complaint := differs(spec, facts):
            raise LaunchError(complaint)
        return World(_state(spec, facts), _why(facts), zone)
    return World("ABSENT", zone=spec.zones[0])


def add_nodes(spec: Spec, runner: Runner, world: World) -> World:
    """Asks for every TPU VM; one uncertain answer makes all unknown."""
    nodes = []
    for name in spec.nodes:
        result = runner.run(commands.describe_node(spec, world.zone, name))
        facts = {"state": "ABSENT"} if result.answer is Answer.ABSENT else read_json(result)
        if facts is None:
            return replace(world, resource="UNKNOWN", reason=result.reason)
        count = len(facts.get("networkEndpoints", ())) or 1
        nodes.append(Node(name, facts.get("state", ""), facts.get("health", ""), count))
    return replace(world, nodes=tuple(nodes))


def hosts_of(world: World) -> list[Host]:
    """Returns all hosts, slice by slice."""
    return [
        Host(world.zone, node.name, worker)
        for node in world.nodes
        for worker in range(node.num_workers)
    ]


def add_runs(spec: Spec, runner: Runner, world: World) -> World:
    """Asks every host for its run, all at once."""
    script = scripts.status(spec)
    results = runner.run_all(
        [commands.ssh(spec, host.zone, host.node, host.worker, script) for host in hosts_of(world)]
    )
    workers = tuple(read_worker(result.out) for result in results)
    words = find_line(results[0].out, "recjax-progress", 1)
    progress = parse(words[1]) if words else None
    age = float(words[0]) if words and progress else 0.0
    return replace(world, workers=workers, progress=progress, progress_seconds=age)


def add_stored_progress(spec: Spec, runner: Runner, world: World) -> World:
    """Reads progress.json from Cloud Storage, where no host is there to ask."""
    if not spec.on_storage:
        return world
    result = runner.run(commands.storage_cat(f"{spec.workdir}/progress.json"))
    return replace(world, progress=read_json(result))


def read_worker(text: str) -> Worker:
    """Reads the line of `remote/status.sh`; without one the worker did not answer."""
    words = find_line(text, "recjax-worker", 3)
    if not words:
        return Worker("unreachable")
    state, code, seconds, infra = words
    number = int(code) if code.isdecimal() else 0
    return Worker(state, number, float(seconds) if seconds.isdecimal() else 0.0, infra == "1")


def find_line(text: str, tag: str, num_cuts: int) -> list[str]:
    """Returns the words after the tag of the last line that has it; the last may have spaces."""
    lines = [line for line in text.splitlines() if line.startswith(f"{tag} ")]
    return lines[-1].split(" ", num_cuts + 1)[1:] if lines else []


def read_json(result: Result) -> Json | None:
    """Returns the object that a command printed, None where the answer is not certain."""
    return parse(result.out) if result.answer is Answer.OK else None


def parse(text: str) -> Json | None:
    """Reads a JSON object; None where it is none, such as a half-written one."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def differs(spec: Spec, facts: Json) -> str:
    """Returns how what is there differs from the spec; nothing where it fits."""
    nodes = [n.get("node", {}) for n in facts.get("tpu", {}).get("nodeSpec", ())] or [facts]
    found = {str(n["acceleratorType"]).split("/")[-1] for n in nodes if "acceleratorType" in n}
    if found <= {spec.hardware.type}:
        return ""
    return (
        f"{spec.name} exists and is a {', '.join(sorted(found))}, the spec says "
        f"{spec.hardware.type}; another name, or delete it first"
    )


def _state(spec: Spec, facts: Json) -> str:
    if spec.mode != "queued":
        return "ACTIVE"
    state = facts.get("state", {})
    return str(state.get("state", "UNKNOWN") if isinstance(state, dict) else state)


def _why(facts: Json) -> str:
    state = facts.get("state")
    failed: Iterable[Any] = (state.get("failedData", {}),) if isinstance(state, dict) else ()
    return " ".join(str(data["error"].get("message", "")) for data in failed if "error" in data)
