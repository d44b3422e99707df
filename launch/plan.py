"""`plan`: what a launch is, costs and would run, to be read or typed; `doctor`: is all there?"""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from launch import commands, scripts
from launch.capacity import EXPIRES, OURS, price_line
from launch.commands import Command
from launch.gcloud import Answer, Runner
from launch.observation import read_json
from launch.spec import Spec

AOT_RECORD = Path("launch/aot.json")
_STEPS = ("up", "status", "sync", "setup", "run", "logs", "stop", "down", "reap")


def all_commands(spec: Spec, arguments: Sequence[str]) -> dict[str, list[Command]]:
    """Returns every command by verb, for the first zone and the first worker.

    What only a launch knows stands in capitals: TREE, SHA256, EXPIRES, REVISION.
    """
    zone, node = spec.zones[0], spec.nodes[0]
    labels = {OURS: spec.name, EXPIRES: "EXPIRES"}
    facts = {"RECJAX_REVISION": "REVISION"}

    def ssh(script: str) -> Command:
        return commands.ssh(spec, zone, node, 0, script)

    made = [] if spec.mode == "existing" else [commands.create(spec, zone, labels)]
    gone = [] if spec.mode == "existing" else [commands.delete(spec, zone)]
    code = commands.send(spec, zone, node, 0, scripts.ARCHIVE, scripts.ARCHIVE)
    looks = [commands.describe(spec, zone)]
    looks += [commands.describe_node(spec, zone, name) for name in spec.nodes if name != spec.name]
    if spec.mode == "queued" and spec.slices == 1:
        looks.append(commands.describe_node(spec, zone, node))
    fetched = commands.fetch(spec, zone, scripts.folder_of(spec).removeprefix("~/"), "runs")
    return {
        "doctor": list(commands.checks(spec).values()),
        "up": [*made, *looks],
        "sync": [ssh(scripts.greet("TREE")), code, ssh(scripts.unpack("TREE", "SHA256"))],
        "setup": [ssh(scripts.setup(spec)), ssh(scripts.preflight(spec))],
        "run": [ssh(scripts.start(spec, 0, facts, arguments))],
        "status": [*looks, ssh(scripts.status(spec))],
        "logs": [ssh(scripts.logs(spec, 100, False, False))],
        "stop": [ssh(scripts.stop(spec))],
        "down": [*([] if spec.workdir else [fetched]), *gone],
        "reap": [commands.list_queued(spec, zone), commands.list_nodes(spec, zone)],
    }


def plan_lines(spec: Spec, arguments: Sequence[str]) -> Iterator[str]:
    """Yields the plan as text."""
    hardware = spec.hardware
    chips = hardware.chips * spec.slices
    memory = f"{chips} chip{'s'[: chips > 1]} of {hardware.generation.memory_gb} GB"
    yield f"{spec.name}: {spec.slices} x {hardware.type}, {memory}"
    yield f"image {commands.runtime_version(spec)}, zones {', '.join(spec.zones)}"
    yield f"work directory {scripts.folder_of(spec)} on the workers"
    yield price_line(spec)
    if spec.capacity != "flex" and spec.mode != "existing":
        yield "nothing on Google's side ends it: `watch` does, or `reap` run by a clock"
    yield from aot_lines(hardware.type, arguments)
    for verb, lines in all_commands(spec, arguments).items():
        yield f"\n# {verb}"
        yield from (shlex.join(line) for line in lines)


def aot_lines(accelerator: str, arguments: Sequence[str], record: Path = AOT_RECORD) -> list[str]:
    """Returns what the TPU compiler said of this config and accelerator type, if it was asked."""
    words = [w.removeprefix("--config=") for w in arguments if w.startswith("--config=")]
    words += [b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--config"]
    rows = json.loads(record.read_text())["rows"] if record.exists() else []
    found = [r for r in rows if r["config"] in words and r["accelerator"] == accelerator]
    return [f"ahead of time, {r['config']} {r['training']}: {r['verdict']}" for r in found]


def doctor(spec: Spec, runner: Runner, say: Callable[[str], None]) -> int:
    """Checks gcloud, account, project, APIs, bucket and zones; 0 when all is well."""
    wrong = 0
    for subject, command in commands.checks(spec).items():
        result = runner.run(command)
        fault = "" if result.answer is Answer.OK else f"{result.answer.value}: {result.reason}"
        fault = fault or _fault(spec, subject, result.out)
        if subject == "bucket" and not fault:
            fault = _region_fault(spec, str((read_json(result) or {}).get("location", "")))
        say(f"{'NO ' if fault else 'ok '} {subject}" + (f": {fault}" if fault else ""))
        wrong += bool(fault)
    return 1 if wrong else 0


def _fault(spec: Spec, subject: str, out: str) -> str:
    if subject == "account" and not out.strip():
        return "nobody is signed in: gcloud auth login"
    if subject == "project" and not (out.strip() or spec.project):
        return "no project: gcloud config set project NAME, or --set project=NAME"
    if subject == "apis" and "tpu.googleapis.com" not in out.split():
        return "gcloud services enable tpu.googleapis.com"
    if subject.startswith("zone ") and out.strip() in ("", "[]"):
        return f"does not offer {spec.hardware.type}"
    return ""


def _region_fault(spec: Spec, location: str) -> str:
    regions = {zone.rpartition("-")[0] for zone in spec.zones}
    if not location or location.lower() in regions or "-" not in location:
        return ""  # a multi-region has no dash
    return f"it lies in {location.lower()}, the TPU in {', '.join(sorted(regions))}: slow and dear"
