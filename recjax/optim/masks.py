"""Which parameters a setting is about, by the end or the whole of their path.

A path is the names from the root joined by "/": "encoder/layers_0/mlp_in/kernel". Trees are of one
member, or of all (nothing here looks at shapes but `depth_scales`).
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

Tree = Any
_LAYER = re.compile(r"layers_(\d+)")


def path_name(path: tuple[Any, ...]) -> str:
    """Returns the name of a parameter's path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def decays(params: Tree) -> Tree:
    """Returns a tree of bools: True where weight decay applies (kernels, recurrent ones too).

    Biases, norm scales and embedding tables are left alone: a decayed table row shrinks at every
    step in which its item does not occur.
    """
    return _by_name(lambda name: _last(name).endswith("kernel"), params)


def is_table(params: Tree) -> Tree:
    """Returns a tree of bools: True for embedding tables [V, D]."""
    return _by_name(lambda name: _last(name) == "table", params)


def is_statistic(params: Tree) -> Tree:
    """Returns a tree of bools: True for running statistics (see `recjax.models.batch_norm`)."""
    return _by_name(lambda name: _last(name).startswith("running_"), params)


def frozen(params: Tree, rules: Sequence[str]) -> Tree:
    """Returns a tree of bools: True for parameters that a rule matches and that must not move.

    Args:
        params: any tree with the parameters' paths.
        rules: regular expressions, each matched against the whole path.

    Raises:
        ValueError: if a rule is no regular expression or matches nothing (naming near paths), or
            if nothing is left to train.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    held = {name for rule in rules for name in _matches(rule, names)}
    if held and held == set(names):
        raise ValueError(f"freeze = {tuple(rules)} matches every parameter: nothing would train")
    return _by_name(lambda name: name in held, params)


def depth_scales(params: Tree, decay: float) -> Tree:
    """Returns each parameter's factor of the learning rate, smaller towards the input.

    The head and all behind the last of L layers have 1, layer i has decay^(L - i) (i from 0), the
    embeddings decay^(L + 1). Each tower, the first name of a path, has its own L.

    Args:
        params: layers_0, layers_1, ... or `layers` [L, ...] somewhere in their paths.
        decay: factor from one layer to the one below, 0 < decay <= 1.

    Returns:
        A tree of float32 arrays that broadcast against the parameters.

    Reference:
        Clark et al. (2020), "ELECTRA", App. B; Bao et al. (2022), "BEiT", App. D.
    """
    depths: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        tower, _, name = path_name(path).partition("/")
        depths[tower] = max(depths.get(tower, 0), _num_layers(name, leaf))

    def scale(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        tower, _, name = path_name(path).partition("/")
        depth, layer, parts = depths[tower], _LAYER.search(name), name.split("/")
        if layer:
            below = np.asarray(depth - int(layer[1]))
        elif "layers" in parts:
            below = (depth - np.arange(depth)).reshape(-1, *(1,) * (len(leaf.shape) - 1))
        else:
            below = np.asarray(any(part.startswith("embedding") for part in parts) * (depth + 1))
        factor = np.float32(decay) ** below.astype(np.float32)
        return np.broadcast_to(factor, factor.shape or (1,) * len(leaf.shape))

    return jax.tree_util.tree_map_with_path(scale, params)


def _num_layers(name: str, leaf: Any) -> int:
    layer = _LAYER.search(name)
    if layer:
        return int(layer[1]) + 1
    return int(leaf.shape[0]) if "layers" in name.split("/") else 0


def _matches(rule: str, names: list[str]) -> list[str]:
    try:
        found = [name for name in names if re.fullmatch(rule, name)]
    except re.error as error:
        raise ValueError(f"freeze: {rule!r} is no regular expression: {error}") from error
    if not found:
        near = difflib.get_close_matches(rule, names, 3, cutoff=0.0)
        raise ValueError(f"freeze: {rule!r} matches no parameter; near: {', '.join(near)}")
    return found


def _by_name(question: Any, params: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(lambda path, _: question(path_name(path)), params)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
