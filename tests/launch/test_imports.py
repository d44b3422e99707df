"""The launcher runs on a laptop that has Python and gcloud: it imports nothing else."""

import ast
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FILES = [*LAUNCH.glob("*.py"), *LAUNCH.glob("remote/*.py"), *LAUNCH.glob("specs/*.py")]


def packages_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_but_the_standard_library_is_imported(path: Path) -> None:
    own = {"recjax", "launch"} if path.name == "aot.py" else {"launch"}
    assert packages_of(path.read_text()) <= own | set(sys.stdlib_module_names)


def test_what_is_forbidden_is_found() -> None:
    assert packages_of("def f():\n    from jax.numpy import x\n    import os") == {"jax", "os"}
