"""Every public name of recjax says what it is: docstring, annotations, and shapes where arrays are.

The checkers read source text, so that a planted violation shows that they can fail.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHAPED = ("hmm", "losses", "metrics", "models")  # rooms where an array's shape is its meaning
ARRAY = re.compile(r"\b(Array|ndarray|ArrayLike)\b")
SHAPE = re.compile(r"\[[^\]\n]*\]|\bscalar\b|\bshape\b")  # int32 [B, T], or the word

Definition = ast.FunctionDef | ast.ClassDef


def public_definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yields functions, classes and methods without a leading underscore; nothing nested deeper."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If):  # e.g. under a version check
            yield from public_definitions(node, prefix)
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{prefix}{node.name}.")


def arguments_of(function: ast.FunctionDef) -> list[ast.arg]:
    named = function.args
    every = [*named.posonlyargs, *named.args, *named.kwonlyargs, named.vararg, named.kwarg]
    return [argument for argument in every if argument and argument.arg not in ("self", "cls")]


def undocumented(source: str) -> list[str]:
    return [
        f"{name} has no docstring"
        for name, node in public_definitions(ast.parse(source))
        if not ast.get_docstring(node) and not _is_overload(node)
    ]


def unannotated(source: str) -> list[str]:
    wrong = []
    for name, node in public_definitions(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            bare = [a.arg for a in arguments_of(node) if a.annotation is None]
            bare += [] if node.returns else ["the result"]
            wrong += [f"{name}: {', '.join(bare)} without annotation"] if bare else []
    return wrong


def shapeless(source: str) -> list[str]:
    """Functions that take or give arrays, whose docstring names no shape.

    Methods of one name in one file are one interface: it is enough that one of them says it.
    """
    wrong, told = [], set()
    for name, node in public_definitions(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        if "." in name and SHAPE.search(ast.get_docstring(node) or ""):
            told.add(node.name)
        annotations = [a.annotation for a in arguments_of(node) if not a.arg.endswith("key")]
        text = " ".join(ast.unparse(a) for a in [*annotations, node.returns] if a)
        if ARRAY.search(text) and not SHAPE.search(ast.get_docstring(node) or ""):
            wrong.append(f"{name} takes or gives arrays and names no shape")
    return [text for text in wrong if text.split(" ")[0].partition(".")[2] not in told]


def _is_overload(node: Definition) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


def modules() -> list[Path]:
    return sorted((ROOT / "recjax").rglob("*.py"))


@pytest.mark.parametrize("check", [undocumented, unannotated], ids=lambda check: check.__name__)
def test_no_public_name_is(check) -> None:
    wrong = [f"{m.relative_to(ROOT)}: {text}" for m in modules() for text in check(m.read_text())]
    assert not wrong, "\n".join(wrong)


def test_array_functions_name_shapes() -> None:
    wrong = []
    for module in modules():
        if module.relative_to(ROOT / "recjax").parts[0].removesuffix(".py") in SHAPED:
            wrong += [f"{module.relative_to(ROOT)}: {t}" for t in shapeless(module.read_text())]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_lives_in_it() -> None:
    silent = [str(m) for m in modules() if not ast.get_docstring(ast.parse(m.read_text()))]
    assert not silent, "\n".join(silent)


def test_checkers_find_what_is_missing() -> None:
    source = "class A:\n    def f(self, x: jax.Array):\n        return x\n"
    assert undocumented(source) == ["A has no docstring", "A.f has no docstring"]
    assert unannotated(source) == ["A.f: the result without annotation"]
    assert shapeless(source) == ["A.f takes or gives arrays and names no shape"]


def test_shapes_may_stand_at_one_method_of_an_interface() -> None:
    source = (
        'class A:\n    def f(self, x: Array) -> int:\n        """Counts x [B]."""\n'
        'class B:\n    def f(self, x: Array) -> int:\n        """See A."""\n'
    )
    assert shapeless(source) == []


def test_checkers_accept_a_full_docstring_and_private_names() -> None:
    source = (
        'def f(key: jax.Array, n: int) -> int:\n    """Draws."""\n'
        'def g(x: np.ndarray) -> float:\n    """Sums x float32 [B, T]."""\n'
        "def _h(x):\n    return x\n"
    )
    assert [*undocumented(source), *unannotated(source), *shapeless(source)] == []
