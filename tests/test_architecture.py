"""Reads every import and holds the house to its plan: who may import whom.

Each rule is a function from a source tree to a list of complaints, so that a planted violation
shows that the rule can fail.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> what it may import of recjax, and which packages besides the standard library.
PURE = ("recjax.models", "recjax.losses", "recjax.metrics")
MAY_IMPORT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hmm": (("recjax.hmm",), ("jax", "numpy")),
    "models": (PURE, ("jax", "flax", "optax", "numpy", "safetensors", "transformers")),
    "losses": (PURE, ("jax", "flax", "optax", "numpy")),
    "metrics": (PURE, ("jax", "flax", "optax", "numpy")),
    "data": (("recjax.data", "recjax.errors"), ()),
    "tasks": (
        (
            "recjax.tasks",
            *PURE,
            "recjax.data.transforms",
            "recjax.expansion.fresh_users",
            "recjax.expansion.on_device",
            "recjax.expansion.teacher",
        ),
        ("jax", "flax", "optax", "numpy"),
    ),
    "expansion": (
        ("recjax.expansion", "recjax.hmm", "recjax.models", "recjax.data", "recjax.errors"),
        (),
    ),
    "parallel": (("recjax.parallel", "recjax.errors"), ("jax", "flax", "numpy")),
    "tuning": (("recjax.tuning", "recjax.errors", "configs"), ()),
    "evaluation": (("recjax.evaluation", "recjax.metrics", "recjax.data", "recjax.errors"), ()),
    "reporting": (("recjax.reporting", "recjax.evaluation", "recjax.errors"), ()),
}  # an empty list of packages: all of requirements.txt but those that follow
MUST_NOT_IMPORT: dict[str, tuple[str, ...]] = {
    "data": ("jax", "flax", "optax", "orbax", "absl", "ml_collections"),
    "expansion": ("flax", "optax", "orbax", "absl", "ml_collections"),
    "evaluation": ("flax", "optax", "orbax", "absl", "ml_collections"),
    "reporting": ("jax", "flax", "optax", "orbax", "absl", "ml_collections"),
    "tuning": ("jax", "flax", "optax", "orbax", "absl"),
}
ONLY_IN = {
    "orbax": "checkpoints.py",
    "tensorboardX": "logs.py",
    "tensorboard": "logs.py",
    "safetensors": "pretrained.py",
    "optuna": "study.py",
}
TOP_FLOOR = (
    "train",
    "experiment",
    "row_experiment",
    "training_plan",
    "recipe",
    "objectives",
    "text_objectives",
    "batch_shapes",
    "planned",
    "preflight",
    "row_heads",
    "trials",
    "dry_run",
    "stages",
    "main",
    "context",
)  # nothing below imports these
DRAWERS = {"utils", "util", "common", "misc", "helpers", "helper", "lib", "tools"}
IMPORT_NAMES = {"absl_py": "absl", "ibis_framework": "ibis", "orbax_checkpoint": "orbax"}


@dataclass(frozen=True)
class Import:
    """One imported name, `from a import b` as "a.b"."""

    path: Path  # below the root of the tree
    line: int
    name: str
    at_import: bool  # False inside a function or under TYPE_CHECKING

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def room(self) -> str:
        """recjax/data/datasets/x.py -> data; recjax/train.py -> train."""
        return self.path.parts[1].removesuffix(".py") if len(self.path.parts) > 1 else ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.name}"


def imports_of(root: Path, folder: str) -> list[Import]:
    found = []
    for path in sorted((root / folder).rglob("*.py")):
        tree, below = ast.parse(path.read_text()), path.relative_to(root)
        found += [Import(below, *fact) for fact in _walk(tree, ".".join(below.parts[:-1]), True)]
    return found


def _walk(node: ast.AST, package: str, at_import: bool) -> Iterator[tuple[int, str, bool]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        at_import = False
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        at_import = False
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.name, at_import
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
        for alias in node.names:
            yield node.lineno, f"{base}.{alias.name}", at_import
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, at_import)


def is_below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def rooms_keep_to_their_imports(root: Path) -> list[str]:
    wrong = []
    for found in imports_of(root, "recjax"):
        if found.room not in MAY_IMPORT or found.package in sys.stdlib_module_names:
            continue
        ours, packages = MAY_IMPORT[found.room]
        if found.package == "recjax":
            allowed = is_below(found.name, ours)
        else:
            allowed = found.package in packages if packages else True
        if not allowed or found.package in MUST_NOT_IMPORT.get(found.room, ()):
            wrong.append(f"{found}, which is not for {found.room}")
    return wrong


def nothing_below_imports_the_top_floor(root: Path) -> list[str]:
    top = tuple(f"recjax.{name}" for name in TOP_FLOOR)
    return [
        str(found)
        for found in imports_of(root, "recjax")
        if is_below(found.name, top) and found.room not in TOP_FLOOR
    ]


def some_packages_have_one_door(root: Path) -> list[str]:
    return [
        f"{found}; only recjax/{ONLY_IN[found.package]} may"
        for found in imports_of(root, "recjax")
        if found.package in ONLY_IN and found.path.name != ONLY_IN[found.package]
    ]


def configs_import_only_configs(root: Path) -> list[str]:
    return [
        str(found)
        for found in imports_of(root, "configs")
        if found.package not in ("ml_collections", "configs")
    ]


def optional_packages_are_imported_in_functions(root: Path) -> list[str]:
    core = {"recjax", "configs", *sys.stdlib_module_names}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name = re.split(r"[\[<>=~! ]", line)[0].replace("-", "_")
        core.add(IMPORT_NAMES.get(name, name))
    return [
        f"{found} at import; it is not in requirements.txt"
        for found in imports_of(root, "recjax")
        if found.at_import and found.package not in core
    ]


def no_drawers(root: Path) -> list[str]:
    python = [path for folder in ("recjax", "configs", "tests") for path in files(root, folder)]
    named = [str(path.relative_to(root)) for path in python if path.stem in DRAWERS]
    asked = [
        str(found) for found in imports_of(root, "recjax") if DRAWERS & set(found.name.split("."))
    ]
    return named + [text for text in asked if "recjax." in text.split("imports")[1]]


def code_has_no_defaults_of_its_own(root: Path) -> list[str]:
    wrong = []
    for path in files(root, "recjax"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr == "get" and re.search(r"config", ast.unparse(node.func.value)):
                wrong.append(f"{path.relative_to(root)}:{node.lineno} asks {ast.unparse(node)}")
    return wrong


def files(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).rglob("*.py"))


Rule = Callable[[Path], list[str]]
# each rule with a file that breaks it
VIOLATIONS: list[tuple[Rule, str, str]] = [
    (rooms_keep_to_their_imports, "recjax/hmm/x.py", "import scipy"),
    (rooms_keep_to_their_imports, "recjax/hmm/x.py", "from recjax.data import vocabulary"),
    (rooms_keep_to_their_imports, "recjax/data/x.py", "def f():\n    import jax.numpy as jnp"),
    (rooms_keep_to_their_imports, "recjax/data/x.py", "from ..hmm import sampling"),
    (rooms_keep_to_their_imports, "recjax/models/x.py", "from ml_collections import ConfigDict"),
    (rooms_keep_to_their_imports, "recjax/metrics/x.py", "import orbax.checkpoint"),
    (rooms_keep_to_their_imports, "recjax/losses/x.py", "from absl import logging"),
    (rooms_keep_to_their_imports, "recjax/tasks/x.py", "from recjax.data import vocabulary"),
    (rooms_keep_to_their_imports, "recjax/parallel/x.py", "from recjax import tasks"),
    (rooms_keep_to_their_imports, "recjax/reporting/x.py", "import jax"),
    (nothing_below_imports_the_top_floor, "recjax/logs.py", "from recjax import train"),
    (nothing_below_imports_the_top_floor, "recjax/expansion/x.py", "import recjax.stages.expand"),
    (some_packages_have_one_door, "recjax/train.py", "import orbax.checkpoint as ocp"),
    (some_packages_have_one_door, "recjax/train.py", "from tensorboardX import SummaryWriter"),
    (configs_import_only_configs, "configs/x.py", "import os"),
    (configs_import_only_configs, "configs/x.py", "from recjax.data import cleaning"),
    (optional_packages_are_imported_in_functions, "recjax/data/x.py", "import pyspark.sql"),
    (optional_packages_are_imported_in_functions, "recjax/logs.py", "import wandb"),
    (no_drawers, "recjax/data/utils.py", ""),
    (no_drawers, "tests/helpers.py", ""),
    (no_drawers, "recjax/train.py", "from recjax.data import common"),
    (code_has_no_defaults_of_its_own, "recjax/train.py", "n = config.model.get('n', 3)"),
]
RULES = sorted({rule for rule, _, _ in VIOLATIONS}, key=lambda rule: rule.__name__)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    wrong = rule(ROOT)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("rule", "path", "source"), VIOLATIONS)
def test_rule_names_a_planted_violation(tmp_path: Path, rule: Rule, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source + "\n")
    assert len(rule(tmp_path)) == 1


def test_lazy_and_typing_imports_do_not_count_as_import_time(tmp_path: Path) -> None:
    (tmp_path / "recjax").mkdir()
    (tmp_path / "recjax/x.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import pyspark\n"
    )
    assert optional_packages_are_imported_in_functions(tmp_path) == []
