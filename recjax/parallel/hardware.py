"""What the devices are, can do and hold: peak operations a second, memory there is, memory used.

Peaks are the makers' figures for dense bfloat16 products of one JAX device; a CPU has none that is
published per core and clock, so utilisation is not given there. CPU devices share the machine's
memory, or what the control group of this process leaves of it.
"""

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from recjax.errors import UserError, WrongDevices

GIB = 1 << 30
PEAK_FLOPS = {  # device_kind begins with the key; the longest key decides
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,  # v5e
    "TPU v5": 459e12,  # v5p
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,  # v6e
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
}


def check_devices(environment: Mapping[str, str]) -> None:
    """Compares the devices with RECJAX_EXPECT_BACKEND and RECJAX_EXPECT_DEVICES, where given.

    A busy or broken TPU makes JAX fall back to the CPU with no more than a warning.

    Args:
        environment: of this process.

    Raises:
        WrongDevices: when JAX found others; of all processes, not of this host.
        UserError: when the number is none.
    """
    backend = environment.get("RECJAX_EXPECT_BACKEND", "")
    count = environment.get("RECJAX_EXPECT_DEVICES", "")
    if count and not count.isdecimal():
        raise UserError(f"RECJAX_EXPECT_DEVICES = {count!r}; give a whole number")
    if not backend and not count:
        return
    found, number = jax.default_backend(), jax.device_count()
    if found != (backend or found) or number != int(count or number):
        raise WrongDevices(
            f"expected {count or 'some'} devices of {backend or 'any kind'} "
            f"(RECJAX_EXPECT_*), JAX found {number} of {found}"
        )


def peak_flops(devices: Sequence[Any]) -> float | None:
    """Returns the peak operations a second of all devices, None where it is not known.

    Args:
        devices: of one kind.
    """
    kind = devices[0].device_kind
    known = [name for name in PEAK_FLOPS if kind.startswith(name)]
    return len(devices) * PEAK_FLOPS[max(known, key=len)] if known else None


def peak_memory_gib() -> float:
    """Returns the most memory that a local device held, or this process where none tells."""
    used = [
        stats["peak_bytes_in_use"] for stats in map(_memory_stats, jax.local_devices()) if stats
    ]
    return max(used) / GIB if used else peak_resident_gib()


def peak_resident_gib() -> float:
    """Returns the most memory that this process held on the host."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def memory_bytes(device: Any) -> int | None:
    """Returns the memory that a program can use on one device, None where it is not known.

    The devices of a CPU get equal shares of the host's.
    """
    if device.platform == "cpu":
        return host_memory_bytes() // jax.local_device_count()
    stats = _memory_stats(device)
    return stats["bytes_limit"] if stats else None


def host_memory_bytes(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the machine's memory, or the limit of this process's control group if smaller.

    Args:
        cgroups: where control groups are mounted, version 2 or 1.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = cgroups / name
        text = path.read_text().strip() if path.is_file() else "max"
        limits += [int(text)] if text != "max" else []
    return min(limits)


def _memory_stats(device: Any) -> dict[str, int] | None:
    stats: dict[str, int] | None = device.memory_stats()
    return stats
