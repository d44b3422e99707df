"""What gcloud sells: accelerator types, their chips, images and list prices.

Names are gcloud's. v4 and v5p count cores, two a chip; v5e and v6e count chips. The number of hosts
of a slice is read from gcloud when it exists (`networkEndpoints`), never computed from here. What
the TPU compiler calls them is in `recjax/parallel/topologies.py`: the launcher runs without recjax,
recjax is installed without the launcher, and a test holds the two to the same chips.
"""

import difflib
from dataclasses import dataclass

from launch.errors import LaunchError

PRICES_OF = "list prices of US regions as seen in 2025; spec.price_per_chip_hour overrides"


@dataclass(frozen=True)
class Generation:
    """One generation of TPU.

    Attributes:
        name: as people say it.
        family: first part of gcloud's accelerator types.
        runtime_version: the image that has its driver; another one finds no devices.
        memory_gb: high-bandwidth memory of a chip, 10^9 bytes.
        cores_per_unit: 2 where the number in the type counts cores.
        price: US dollars per chip and hour, on demand.
    """

    name: str
    family: str
    runtime_version: str
    memory_gb: int
    cores_per_unit: int
    price: float


@dataclass(frozen=True)
class Accelerator:
    """One accelerator type, e.g. `v5litepod-8`; JAX has one device a chip."""

    type: str
    generation: Generation
    chips: int


GENERATIONS = (
    Generation("v4", "v4", "tpu-ubuntu2204-base", 32, 2, 3.22),
    Generation("v5e", "v5litepod", "v2-alpha-tpuv5-lite", 16, 1, 1.20),
    Generation("v5p", "v5p", "v2-alpha-tpuv5", 95, 2, 4.20),
    Generation("v6e", "v6e", "v2-alpha-tpuv6e", 32, 1, 2.70),
)
_SIZES = {
    "v4": (8, 16, 32, 64, 128),
    "v5e": (1, 4, 8, 16, 32, 64, 128, 256),
    "v5p": (8, 16, 32, 64, 128, 256, 512),
    "v6e": (1, 4, 8, 16, 32, 64, 128, 256),
}
_ALIASES = {"v5e": "v5litepod", "v5lite": "v5litepod"}


def known_accelerators() -> dict[str, Accelerator]:
    """Returns all accelerator types by name."""
    found = [
        Accelerator(f"{g.family}-{size}", g, size // g.cores_per_unit)
        for g in GENERATIONS
        for size in _SIZES[g.name]
    ]
    return {accelerator.type: accelerator for accelerator in found}


def find_accelerator(name: str) -> Accelerator:
    """Returns an accelerator type; `v5e-8` is taken for `v5litepod-8`.

    Raises:
        LaunchError: for an unknown type, naming near ones.
    """
    family, _, size = name.strip().lower().partition("-")
    wanted, known = f"{_ALIASES.get(family, family)}-{size}", known_accelerators()
    if family in ("tpu7x", "v7x"):
        raise LaunchError(f"accelerator {name!r} is sold through GKE only: see launch/gke")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, 4, cutoff=0.5) or list(known)
        raise LaunchError(f"unknown accelerator {name!r}; e.g. {', '.join(near)}")
    return known[wanted]
