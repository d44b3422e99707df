"""Ahead-of-time compiles for TPUs that are not there: does it compile, does it fit, what moves?

libtpu holds the real TPU compiler and needs no TPU. A wrong flag or version ends its process, so
that all of it runs in a child process (see `recjax.preflight`) with a timeout. Nothing is said of
numbers or speed. Inside such a compile `jax.default_backend()` is "cpu": code that must differ by
platform asks the mesh's devices, or uses `jax.lax.platform_dependent`.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from recjax.parallel.topologies import Topology

Report = dict[str, Any]

# What makes libtpu quiet and lets several compiles run at once; a real TPU host sets none of them.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # silences a warning, does not bind the target
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
# An asynchronous pair counts once, at its end, where the result stands alone.
_COLLECTIVE = re.compile(rf"= (?P<shape>.*?) (?P<kind>{_KINDS})(?:-done)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_USABLE = re.compile(r"(?:available HBM \(|G of )([\d.]+)G")


def topology_devices(topology: Topology) -> Sequence[Any]:
    """Returns the devices of a topology, which can be compiled for and nothing else."""
    from jax.experimental import topologies

    return topologies.get_topology_desc(
        platform="tpu", topology_name=topology.name, **topology.settings
    ).devices


def compile_report(lowered: Any, topology: Topology) -> Report:
    """Compiles a lowered step and says what it costs, in bytes per device.

    Args:
        lowered: `jax.stages.Lowered` for the topology's devices.
        topology: which they are.

    Returns:
        accelerator, topology, devices, fits; where it fits: usable_bytes, memory (by kind), flops,
        bytes_accessed and collectives {kind: {count, bytes}}; else compiler_says.

    Raises:
        Exception: whatever the compiler raises besides running out of memory.
    """
    report: Report = {
        "accelerator": topology.accelerator,
        "topology": topology.name,
        "devices": topology.num_devices,
    }
    try:
        compiled = lowered.compile()
    except Exception as error:
        if "Ran out of memory" not in str(error):
            raise
        return {**report, "fits": False, "compiler_says": out_of_memory(str(error))}
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return {
        **report,
        "fits": True,
        "usable_bytes": usable_bytes(topology),
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
            "peak": memory.peak_memory_in_bytes,
        },
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "collectives": collectives(compiled.as_text()),
    }


def usable_bytes(topology: Topology) -> int:
    """Returns the memory of one device that a program can use, as the compiler states it.

    It says so when it refuses: the probe asks for more than any device has.
    """
    device = jax.sharding.SingleDeviceSharding(topology_devices(topology)[0])
    too_large = jax.ShapeDtypeStruct((1 << 32, 128), jnp.float32, sharding=device)  # 2 TiB
    try:
        jax.jit(lambda x: x[::-1] + 1).lower(too_large).compile()
    except Exception as error:
        if found := _USABLE.search(str(error)):
            return int(float(found[1]) * (1 << 30))
        raise
    raise RuntimeError("the compiler takes 2 TiB to fit on one device")


def collectives(hlo: str) -> dict[str, dict[str, int]]:
    """Counts the collectives of a compiled program.

    Args:
        hlo: `compiled.as_text()`.

    Returns:
        By kind: how many there are and the bytes of their results on one device; those in the body
        of a loop count once.

    Example:
        >>> collectives("%a = f32[8,2]{1,0:T(8,128)} all-reduce(%b), channel_id=1")
        {'all-reduce': {'count': 1, 'bytes': 64}}
    """
    found: dict[str, dict[str, int]] = {}
    for match in _COLLECTIVE.finditer(hlo):
        entry = found.setdefault(match["kind"], {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += sum(_num_bytes(*array) for array in _ARRAY.findall(match["shape"]))
    return dict(sorted(found.items()))


def out_of_memory(error: str) -> str:
    """Returns the sentence of the compiler's error that has its figures, without what follows."""
    start = error.index("Ran out of memory")
    return " ".join(error[start:].split("\n\n")[0].split())


def _num_bytes(dtype: str, dimensions: str) -> int:
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return math.prod(int(size) for size in dimensions.split(",") if size) * bits // 8
