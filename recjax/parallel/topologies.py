"""Which TPU topology a gcloud accelerator type is, and how much memory a device of it has.

The names of the compiler and of gcloud differ: `v5litepod-8` is `v5e:2x4`, and v4 and v5p count
cores. Usable memory is what the TPU compiler itself says when a program is too large.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recjax.errors import UserError


@dataclass(frozen=True)
class Topology:
    """One slice of TPUs.

    Attributes:
        accelerator: gcloud's accelerator type.
        name: what the compiler calls it.
        num_devices: JAX devices.
        settings: more arguments of `topologies.get_topology_desc`.
    """

    accelerator: str
    name: str
    num_devices: int
    settings: Mapping[str, Any]


_LITE = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_HOST_BOUNDS = {1: (1, 1, 1), 8: (2, 4, 1)}  # one host up to 8 chips, else 4 chips a host
_BY_CORES = {8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4"}
_SLICES = re.compile(r"([2-9]|[1-9]\d+)x(?=v)")  # "2xv5e-8": two slices that train as one
_ALIASES = {"v5e": "v5litepod", "v5lite": "v5litepod"}  # what people write


def known_topologies() -> dict[str, Topology]:
    """Returns the topologies by accelerator type."""
    found = []
    for family, generation in (("v5litepod", "v5e"), ("v6e", "v6e")):
        for chips, shape in _LITE.items():
            bounds = {"chips_per_host_bounds": _HOST_BOUNDS.get(chips, (2, 2, 1))}
            found.append(Topology(f"{family}-{chips}", f"{generation}:{shape}", chips, bounds))
    for cores, shape in _BY_CORES.items():
        found.append(Topology(f"v5p-{cores}", f"v5p:{shape}", cores // 2, {}))
    # Without megacore the compiler gives two devices per v4 chip, as no one runs them.
    megacore = {"chip_config_name": "megacore"}
    for cores in (8, 16):
        found.append(Topology(f"v4-{cores}", f"v4:{_BY_CORES[cores]}", cores // 2, megacore))
    found.append(Topology("tpu7x-8", "tpu7x:2x2x1", 8, {}))
    return {topology.accelerator: topology for topology in found}


def find_topology(accelerator: str) -> Topology:
    """Returns the topology of an accelerator type; `v5e-8` is taken for `v5litepod-8`.

    Args:
        accelerator: gcloud's type; with "2x" before it, two such slices.

    Raises:
        UserError: for an unknown type, naming near ones.
    """
    wanted = accelerator.strip().lower()
    if slices := _SLICES.match(wanted):
        return _several(find_topology(wanted[slices.end() :]), int(slices[1]))
    family, _, size = wanted.partition("-")
    name, known = f"{_ALIASES.get(family, family)}-{size}", known_topologies()
    if name not in known:
        near = difflib.get_close_matches(name, known, 4, cutoff=0.5) or list(known)
        raise UserError(f"--aot {accelerator}: unknown accelerator type; e.g. {', '.join(near)}")
    return known[name]


def _several(topology: Topology, count: int) -> Topology:
    return dataclasses.replace(
        topology,
        accelerator=f"{count}x{topology.accelerator}",
        num_devices=count * topology.num_devices,
        settings={**topology.settings, "num_slices": count},
    )
