"""What to start: one frozen dataclass, read from a Python file with `get_spec()`."""

import dataclasses
import difflib
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.errors import LaunchError
from launch.flags import libtpu_flags
from launch.hardware import Accelerator, find_accelerator

CAPACITIES = ("on_demand", "spot", "flex", "reserved")
MODES = ("queued", "direct", "existing")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?$")  # gcloud's rule, room for "-0" of a slice


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One launch, complete; "" means "not given".

    Attributes:
        name: of the TPU VM and of its queued resource; one name, so that nothing exists twice.
        accelerator: gcloud's type; `v5e-8` is taken for `v5litepod-8`.
        zones: where to ask for it; the next one when a zone has no capacity.
        project: "": the one that gcloud is configured with.
        capacity: on_demand, spot, flex (flex-start: at most 7 days, Google ends it), reserved.
        mode: queued (waits for capacity), direct (fails at once without), existing (never created
            or deleted by us).
        slices: above 1: as many slices that work as one.
        runtime_version: of the VM's image; "": the one of the generation.
        network, subnetwork, service_account: "": the project's default.
        internal_ips: VMs without a public address.
        iap: reach workers through Identity-Aware Proxy.
        labels: more labels.
        workdir: gs://BUCKET/FOLDER, mounted on every worker, or an absolute path that all workers
            share; "": a folder of the one host, fetched to runs/ before the TPU is deleted.
        env: environment of the run.
        secret_env: names of variables of this machine's environment that the run needs.
        flags_profile: a name of `launch/flags.py`.
        python: version on the workers.
        requirements: what they install besides requirements.txt.
        max_hours: after so long the run is stopped, saved and deleted.
        max_wait_hours: for capacity.
        max_restarts: by `watch`, of any kind.
        idle_minutes: a run without progress for so long is restarted.
        on_done: keep or delete the TPU when the run has ended well.
        heartbeat_seconds, init_seconds: how long processes wait for each other.
        price_per_chip_hour: US dollars; 0: the table's.
    """

    name: str
    accelerator: str
    zones: tuple[str, ...]
    project: str = ""
    capacity: str = "on_demand"
    mode: str = "queued"
    slices: int = 1
    runtime_version: str = ""
    network: str = ""
    subnetwork: str = ""
    service_account: str = ""
    internal_ips: bool = False
    iap: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: tuple[str, ...] = ()
    flags_profile: str = "none"
    python: str = "3.12"
    requirements: tuple[str, ...] = ("jax[tpu]",)
    max_hours: float = 4.0
    max_wait_hours: float = 6.0
    max_restarts: int = 20
    idle_minutes: float = 60.0
    on_done: str = "delete"
    heartbeat_seconds: int = 100
    init_seconds: int = 300
    price_per_chip_hour: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            LaunchError: naming the field and what would be right.
        """
        for complaint in _complaints(self):
            raise LaunchError(f"spec {self.name!r}: {complaint}")
        libtpu_flags(self.flags_profile, self.hardware.generation.name)

    @property
    def hardware(self) -> Accelerator:
        """What the accelerator type means."""
        return find_accelerator(self.accelerator)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the TPU VMs, one a slice."""
        if self.slices == 1:
            return (self.name,)
        return tuple(f"{self.name}-{index}" for index in range(self.slices))

    @property
    def dollars_per_hour(self) -> float:
        """The most that it costs."""
        price = self.price_per_chip_hour or self.hardware.generation.price
        return price * self.hardware.chips * self.slices

    @property
    def bucket(self) -> str:
        """The bucket of the work directory, "" where it is a folder."""
        return self.workdir.removeprefix("gs://").split("/")[0] if self.on_storage else ""

    @property
    def on_storage(self) -> bool:
        """Whether the work directory lies in Cloud Storage."""
        return self.workdir.startswith("gs://")


def _complaints(spec: Spec) -> list[str]:
    rules = (
        (_NAME.match(spec.name), "name: lower-case letters, digits, dashes; at most 50"),
        (spec.zones, "zones: give at least one, e.g. ('us-west4-a',)"),
        (spec.capacity in CAPACITIES, f"capacity {spec.capacity!r}; known: {CAPACITIES}"),
        (spec.mode in MODES, f"mode {spec.mode!r}; known: {MODES}"),
        (spec.slices >= 1, f"slices = {spec.slices}; give at least 1"),
        (spec.slices == 1 or spec.mode == "queued", "several slices come as a queued resource"),
        (spec.capacity != "flex" or spec.mode == "queued", "flex comes as a queued resource"),
        (spec.on_done in ("keep", "delete"), f"on_done {spec.on_done!r}; known: keep, delete"),
        (_is_folder(spec), f"workdir {spec.workdir!r}; give gs://BUCKET/FOLDER or /A/FOLDER"),
        (0 < spec.max_hours, f"max_hours = {spec.max_hours}; give more than 0"),
        (spec.capacity != "flex" or spec.max_hours <= 168, "flex ends after 7 days: max_hours"),
    )
    return [text for holds, text in rules if not holds]


def _is_folder(spec: Spec) -> bool:
    if not spec.on_storage:
        return spec.workdir == "" or spec.workdir.startswith("/")
    return re.match(r"gs://[\w.-]+/[\w./-]*\w$", spec.workdir) is not None


def load_spec(path: str, overrides: Sequence[str] = ()) -> Spec:
    """Reads a spec file and changes fields of it.

    Args:
        path: of a Python file with `get_spec() -> Spec`.
        overrides: "field=value"; lists are separated by commas.

    Raises:
        LaunchError: naming the file or field that is wrong.
    """
    if not Path(path).is_file():
        here = sorted(str(p) for p in Path("launch/specs").glob("[!_]*.py"))
        raise LaunchError(f"--spec {path}: no such file; here are: {', '.join(here) or 'none'}")
    try:
        spec = runpy.run_path(path)["get_spec"]()
    except KeyError as error:
        raise LaunchError(f"--spec {path} has no get_spec()") from error
    except TypeError as error:  # a field that does not exist, or is missing
        raise LaunchError(f"--spec {path}: {_advise(str(error))}") from error
    if not isinstance(spec, Spec):
        raise LaunchError(f"--spec {path}: get_spec() must return a launch.spec.Spec")
    return dataclasses.replace(spec, **dict(_parse(word) for word in overrides))


def _advise(message: str) -> str:
    named = re.search(r"unexpected keyword argument '(\w+)'", message)
    near = difflib.get_close_matches(named[1], _fields(), 1) if named else []
    return message + (f"; did you mean {near[0]}?" if near else "")


def _parse(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if name not in _fields() or not equals:
        near = difflib.get_close_matches(name, _fields(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise LaunchError(f"--set {word}: no such field of a spec{hint}")
    kind = _fields()[name].type
    try:
        return name, _READERS.get(kind, str)(text)
    except (ValueError, KeyError) as error:
        raise LaunchError(f"--set {word}: {name} is a {kind}") from error


def _fields() -> dict[str, Any]:
    return {f.name: f for f in dataclasses.fields(Spec)}


_READERS: Mapping[Any, Any] = {
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
    tuple[str, ...]: lambda text: tuple(filter(None, text.split(","))),
    Mapping[str, str]: lambda text: dict(
        pair.split("=", 1) for pair in filter(None, text.split(","))
    ),
}
