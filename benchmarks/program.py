"""How a benchmark runs recjax: as its users do, by its command, from the root of the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_program(*flags: str) -> None:
    """Runs `recjax.main`; what it finished before, it skips.

    Raises:
        SystemExit: with the program's exit code, if it does not end well.
    """
    done = subprocess.run([sys.executable, "-m", "recjax.main", *flags], cwd=ROOT)
    if done.returncode:
        print(f"recjax.main ended with {done.returncode}; the same command goes on from there")
        raise SystemExit(done.returncode)
