"""Says in one JSON line what a worker is, without touching the TPU: preflight.py WORKDIR.

The launcher compares the workers; what JAX itself finds is checked by the run (exit code 3).
"""

import glob
import json
import os
import shutil
import sys
import time
import uuid
from importlib import metadata
from pathlib import Path


def versions(*names: str) -> dict[str, str]:
    """Returns the versions of packages that are installed."""
    found = {"python": "{}.{}.{}".format(*sys.version_info[:3])}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def count_chips() -> int:
    """Returns the number of TPU device files; where they lie differs by generation."""
    return len(glob.glob("/dev/accel*")) or len(glob.glob("/dev/vfio/[0-9]*"))


def write_error(folder: Path) -> str:
    """Writes, reads and removes a file; returns what went wrong, or nothing."""
    probe = folder / f".preflight-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("here")
        assert probe.read_text() == "here"
        probe.unlink()
    except (OSError, AssertionError) as error:
        return f"{folder}: {error}"
    return ""


def main(workdir: str) -> None:
    """Prints the facts."""
    facts = {
        "versions": versions("jax", "libtpu", "flax"),
        "chips": count_chips(),
        "free_gib": round(shutil.disk_usage(Path.home()).free / 2**30, 1),
        "time": time.time(),
        "write_error": write_error(Path(os.path.expanduser(workdir))),
    }
    print("recjax-preflight", json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1])
