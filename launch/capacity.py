"""Verbs that cost or save money: create, delete, reap; and what it all costs."""

import time

from launch import commands
from launch.errors import LaunchError
from launch.gcloud import STOP, Answer, check
from launch.hardware import PRICES_OF
from launch.launcher import Launcher
from launch.observation import find_resource, parse
from launch.spec import Spec

EXPIRES, OURS = "recjax-expires", "recjax"
_SPARE_HOURS = 0.5  # a watcher gets so long beyond max_hours before `reap` may delete


def price_line(spec: Spec) -> str:
    """Returns what the launch costs, at most."""
    hourly = spec.dollars_per_hour
    text = (
        f"{spec.slices} x {spec.hardware.type} ({spec.capacity}): at most ${hourly:.2f} an hour, "
        f"${hourly * spec.max_hours:.2f} in max_hours = {spec.max_hours:g}"
    )
    source = "spec.price_per_chip_hour" if spec.price_per_chip_hour else PRICES_OF
    return f"{text} ({source})"


def labels_of(spec: Spec, first_asked_at: float) -> dict[str, str]:
    """Returns the labels by which `reap` knows what is ours and until when."""
    expires = first_asked_at + (spec.max_hours + spec.max_wait_hours + _SPARE_HOURS) * 3600
    return {OURS: spec.name, EXPIRES: str(int(expires))}


def create(launcher: Launcher) -> None:
    """Asks for the TPU in the next zone; the caller has seen that it is nowhere.

    Raises:
        LaunchError: when asking again is no use, with advice.
    """
    spec, record, now = launcher.spec, launcher.history.read(), time.time()
    is_new_wait = bool(record.paid_since) and not record.asked_at
    first = record.first_asked_at or now
    launcher.history.change(
        first_asked_at=first,
        asked_at=record.asked_at or now,
        restarts=record.restarts + is_new_wait,
    )
    zone = spec.zones[record.zone % len(spec.zones)]
    launcher.say(f"asking for {spec.hardware.type} in {zone}")
    result = launcher.runner.run(commands.create(spec, zone, labels_of(spec, first)))
    if result.answer in STOP:
        launcher.history.change(closed=result.answer.value)
        raise LaunchError(f"{result.answer.value}: {result.reason}", 2)
    if result.answer is Answer.NO_CAPACITY:
        launcher.history.change(zone=record.zone + 1)
    if result.answer not in (Answer.OK, Answer.EXISTS):  # the next look tells
        launcher.say(f"{result.answer.value}: {result.reason}")


def delete(launcher: Launcher, zone: str) -> None:
    """Asks for the deletion of what `create` made; that it is gone, the next look tells."""
    result = launcher.runner.run(commands.delete(launcher.spec, zone))
    if result.answer not in (Answer.OK, Answer.ABSENT):
        launcher.say(f"{result.answer.value}: {result.reason}")


def down(launcher: Launcher, reason: str = "taken down") -> None:
    """Deletes the TPU and returns when it is gone; a watcher elsewhere on this machine ends too.

    Raises:
        LaunchError: when the TPU is not ours to delete, or does not go.
    """
    spec = launcher.spec
    if spec.mode == "existing":
        raise LaunchError(f"{spec.name} is not ours (mode 'existing'): delete it by hand")
    launcher.history.change(closed=reason)
    deadline = time.time() + 3600
    while time.time() < deadline:
        world = find_resource(spec, launcher.runner)
        if world.resource == "ABSENT":
            launcher.say(f"{spec.name} is gone")
            return
        if world.resource == "UNKNOWN":
            launcher.say(f"not certain: {world.reason}")
        elif world.resource != "DELETING":
            launcher.say(f"deleting {spec.name} in {world.zone}")
            delete(launcher, world.zone)
        launcher.sleep(launcher.poll_seconds)
    raise LaunchError(f"{spec.name} is still there after an hour: look in the console", 4)


def reap(launcher: Launcher, now: float) -> int:
    """Deletes all of ours whose time is over, whatever its name, in the spec's zones.

    Returns:
        How many were deleted.
    """
    spec, runner, count = launcher.spec, launcher.runner, 0
    for zone in spec.zones:
        queued = _listed(check(runner.run(commands.list_queued(spec, zone))).out)
        nodes = _listed(check(runner.run(commands.list_nodes(spec, zone))).out)
        old = {_name(q) for q in queued if _is_over(_labels(q), now)}
        old |= {_name({"name": n["queuedResource"]}) for n in nodes if _in_queue(n, now)}
        alone = {_name(n) for n in nodes if _is_over(n.get("labels", {}), now)}
        alone -= {_name(n) for n in nodes if n.get("queuedResource")}
        orders = [commands.delete_queued(spec, zone, name) for name in sorted(old)]
        orders += [commands.delete_node(spec, zone, name) for name in sorted(alone)]
        for order in orders:
            launcher.say(f"its time is over: {order[5]} in {zone}")
            result = runner.run(order)
            if result.answer is not Answer.ABSENT:  # it may have gone with its queued resource
                check(result)
        count += len(orders)
    return count


def _listed(text: str) -> list[dict]:
    facts = parse(f'{{"all": {text or "[]"}}}') or {}
    return list(facts.get("all", ()))


def _labels(queued: dict) -> dict[str, str]:
    specs = queued.get("tpu", {}).get("nodeSpec", ())
    return {k: v for s in specs for k, v in s.get("node", {}).get("labels", {}).items()}


def _is_over(labels: dict[str, str], now: float) -> bool:
    expires = labels.get(EXPIRES, "")
    return OURS in labels and expires.isdecimal() and int(expires) < now


def _in_queue(node: dict, now: float) -> bool:
    return bool(node.get("queuedResource")) and _is_over(node.get("labels", {}), now)


def _name(facts: dict) -> str:
    return str(facts["name"]).split("/")[-1]
