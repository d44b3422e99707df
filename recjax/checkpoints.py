"""Checkpoints through orbax, the only file that imports it.

One step holds three parts saved together: `best` (the parameters that later stages load), `state`
(all that training needs to go on) and `loop` (iterator pointers and clock, JSON). A step is
visible only when complete; when the newest cannot be read, the one before it is used.
"""

import logging
from pathlib import Path
from typing import Any

import jax

from recjax.errors import UserError

Tree = Any


class Checkpoints:
    """Saves and restores the steps of one training folder."""

    def __init__(self, folder: Path, keep_last: int) -> None:
        from orbax.checkpoint import v1 as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax narrates every save
        self._folder = folder
        self._checkpointer = ocp.training.Checkpointer(
            folder,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep_last),
        )

    def save(self, step: int, *, best: Tree, state: Tree, loop: dict[str, Any]) -> None:
        """Saves one step; returns when it is complete on disk.

        Raises:
            UserError: when the disk is full or not writable.
        """
        parts = {"best": best, "state": state, "loop": loop}
        try:
            self._checkpointer.save_checkpointables(step, parts, overwrite=True)
        except OSError as error:
            raise UserError(f"cannot save a checkpoint in {self._folder}: {error}") from error

    def restore(self, *, best: Tree, state: Tree) -> tuple[int, Tree, Tree, dict[str, Any]] | None:
        """Restores the newest readable step into trees of abstract arrays with shardings.

        Args:
            best: tree of `jax.ShapeDtypeStruct` with shardings.
            state: likewise.

        Returns:
            (step, best, state, loop), or None when there is no checkpoint.
        """
        for step in self._steps():
            try:
                parts = self._checkpointer.load_checkpointables(
                    step, {"best": best, "state": state, "loop": None}
                )
                return step, parts["best"], parts["state"], parts["loop"]
            except (OSError, ValueError, KeyError) as error:
                logging.warning("checkpoint %s/%s is unreadable: %s", self._folder, step, error)
        return None

    def restore_best(self, best: Tree) -> Tree:
        """Restores only `best` of the newest readable step.

        Raises:
            UserError: when there is no readable checkpoint.
        """
        for step in self._steps():
            try:
                return self._checkpointer.load_checkpointables(step, {"best": best})["best"]
            except (OSError, ValueError, KeyError) as error:
                logging.warning("checkpoint %s/%s is unreadable: %s", self._folder, step, error)
        raise UserError(f"no readable checkpoint in {self._folder}; redo the stage that writes it")

    def close(self) -> None:
        """Ends background work."""
        self._checkpointer.close()

    def _steps(self) -> list[int]:
        return sorted((meta.step for meta in self._checkpointer.checkpoints), reverse=True)


def abstract(tree: Tree) -> Tree:
    """Returns the tree's shapes, dtypes and shardings without its values."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
