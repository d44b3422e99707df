"""One launch at work: a spec, what runs its commands, what it remembers, how it speaks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch import commands
from launch.errors import LaunchError
from launch.gcloud import Result, Runner
from launch.history import History, past_of
from launch.machine import Past, World
from launch.observation import Host, hosts_of, observe
from launch.spec import Spec


def _say(text: str) -> None:
    print(f"launch: {text}", flush=True)


@dataclass
class Launcher:
    """What all verbs work with.

    Attributes:
        spec: what to launch.
        runner: runs gcloud.
        history: of this launch.
        arguments: of recjax.main.
        folder: somewhere in the checkout whose code is sent.
        poll_seconds: between two looks.
    """

    spec: Spec
    runner: Runner
    history: History
    arguments: Sequence[str] = ()
    folder: Path = Path(".")
    poll_seconds: float = 20.0
    say: Callable[[str], None] = _say
    sleep: Callable[[float], None] = time.sleep
    _unreachable_since: float = field(default=0.0, init=False)

    def look(self) -> tuple[World, Past]:
        """Returns what is seen, and what happened before."""
        world = observe(self.spec, self.runner)
        if any(worker.state == "unreachable" for worker in world.workers):
            self._unreachable_since = self._unreachable_since or time.time()
        else:
            self._unreachable_since = 0.0
        progress = world.progress or {}
        told = (float(progress.get("time", 0.0)), str(progress.get("state", "")))
        return world, past_of(self.history.read(), self._unreachable_since, *told)

    def ready_hosts(self) -> list[Host]:
        """Returns the hosts of a TPU that is ready.

        Raises:
            LaunchError: when it is not.
        """
        world = observe(self.spec, self.runner)
        states = ", ".join(f"{node.name} {node.state} {node.health}" for node in world.nodes)
        if not world.workers:
            seen = f"{world.resource} {world.reason} {states}".strip()
            raise LaunchError(f"{self.spec.name} is not ready: {seen}; see: launch up", 4)
        return hosts_of(world)

    def on_all(self, hosts: Sequence[Host], scripts: Sequence[str], expect: str) -> list[str]:
        """Runs a script on every host at once and reads what each says.

        gcloud's exit code is not looked at where the host has spoken: it is not to be trusted.

        Args:
            hosts: where.
            scripts: one a host.
            expect: how the line begins that a host says when all is well.

        Returns:
            The line of each host, without its beginning.

        Raises:
            LaunchError: naming the hosts that did not say it, and what they said instead.
        """
        results = self.runner.run_all(
            [
                commands.ssh(self.spec, host.zone, host.node, host.worker, script)
                for host, script in zip(hosts, scripts, strict=True)
            ]
        )
        return check_hosts(hosts, results, expect)


def check_hosts(hosts: Sequence[Host], results: Sequence[Result], expect: str) -> list[str]:
    """Returns the line that each host was to say; see `Launcher.on_all`.

    Raises:
        LaunchError: for the hosts that did not.
    """
    said = [_line(result.out, expect) for result in results]
    silent = [
        f"worker {host.worker} of {host.node}: {result.reason or 'said nothing'}"
        for host, result, line in zip(hosts, results, said, strict=True)
        if line is None
    ]
    if silent:
        raise LaunchError("\n  ".join([f"not all workers said {expect!r}", *silent[:8]]), 1)
    return [line or "" for line in said]


def _line(text: str, start: str) -> str | None:
    lines = [line for line in text.splitlines() if line.startswith(start)]
    return lines[-1].removeprefix(start).strip() if lines else None
