"""Warm start: a pretraining begins with the encoder of another run, its vocabulary mapped.

That run may be of another log, shop or category. Rows of the tables that have names, of items,
actions and categories, go over by name; what only this log knows keeps its fresh row. All other
parameters are taken as they are. Called by `recjax.experiment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from recjax.data.items import ItemTable
from recjax.errors import UserError
from recjax.tasks.parameters import leaves_by_name

Params = dict[str, Any]
KEY = "config.pretrain.warm_start"


@dataclass(frozen=True)
class Rows:
    """Rows of two tables that stand for the same.

    Attributes:
        theirs: rows of the other run's table, int32 [N].
        ours: rows of this run's table, int32 [N].
    """

    theirs: np.ndarray
    ours: np.ndarray


def names_of_rows(items: ItemTable, actions: Sequence[str]) -> dict[str, list[str]]:
    """Returns what the rows of each table with names stand for, by the path of its parameter."""
    categories = [""] * items.num_categories
    for number, category in zip(items.category_id, items.categories, strict=True):
        categories[number] = str(category) if number else ""
    names = {
        "item": list(map(str, items.item_ids)),
        "action": [*actions, "[HIDDEN]"],
        "category": categories,
    }
    return {f"embedding/{name}/table": of_rows for name, of_rows in names.items()}


def match_rows(theirs: Sequence[str], ours: Sequence[str]) -> Rows:
    """Matches rows by name.

    Example:
        >>> match_rows(["a", "b", "c"], ["c", "d", "a"])
        Rows(theirs=array([2, 0], dtype=int32), ours=array([0, 2], dtype=int32))
    """
    place = {name: row for row, name in enumerate(theirs)}
    known = [(place[name], row) for row, name in enumerate(ours) if name in place]
    pairs = np.array(known, np.int32).reshape(-1, 2)
    return Rows(pairs[:, 0], pairs[:, 1])


def warm_start(theirs: Params, fresh: Params, rows: Mapping[str, Rows]) -> Params:
    """Returns `fresh` with the encoder of another run; heads stay fresh.

    Args:
        theirs: {"encoder", ...} of the other run, leaves [M, ...].
        fresh: {"encoder", ...} of this run, leaves [M, ...], placed on its devices.
        rows: path of a table below "encoder" -> its matching rows.

    Raises:
        UserError: if the encoders differ in more than the rows of these tables, naming the
            parameter.
    """
    old, new = (leaves_by_name(tree["encoder"]) for tree in (theirs, fresh))
    for name in sorted(old.keys() | new.keys()):
        _check(name, old.get(name), new.get(name), name in rows)

    def put(old: Params, new: Params) -> Params:
        def leaf(path: tuple, found: jax.Array, mine: jax.Array) -> jax.Array:
            same = rows.get("/".join(str(part.key) for part in path))
            return found if same is None else mine.at[:, same.ours].set(found[:, same.theirs])

        return jax.tree_util.tree_map_with_path(leaf, old, new)

    placed = jax.tree.map(lambda leaf: leaf.sharding, fresh["encoder"])
    encoder = jax.jit(put, out_shardings=placed)(theirs["encoder"], fresh["encoder"])
    return {**fresh, "encoder": encoder}


def _check(name: str, old: jax.Array | None, new: jax.Array | None, named_rows: bool) -> None:
    if old is None or new is None:
        where = "there" if new is None else "here"
        raise UserError(f"{KEY}: encoder parameter {name} is {where} only; config.model differs")
    sizes = [leaf.shape[:1] + leaf.shape[2:] if named_rows else leaf.shape for leaf in (old, new)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"{KEY}: encoder parameter {name} is {old.shape} there and {new.shape} here; sizes of "
            "config.model (and prepare.num_gap_bins) must be equal"
        )
