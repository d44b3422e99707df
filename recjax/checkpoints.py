"""Checkpoints through orbax, the only file that imports it.

One step holds three parts saved together: `best` (the parameters that later stages load), `state`
(all that training needs to go on) and `loop` (iterator pointers and clock, JSON). A save copies the
arrays off the devices and is written while training goes on. A step is visible only when complete;
when the newest cannot be read, the one before it is used.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from recjax import distributed
from recjax.errors import UserError

Tree = Any


_DISK_TROUBLE = tuple(  # what tensorstore says in its ValueErrors, too
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
)


class Checkpoints:
    """Saves and restores the steps of one training folder.

    Args:
        folder: where the steps lie; made where absent.
        keep_last: newest steps kept; None: all.
        keep_best: steps of the highest `metric` kept beside them; 0: none.
    """

    def __init__(self, folder: Path, *, keep_last: int | None = None, keep_best: int = 0) -> None:
        from orbax.checkpoint import v1 as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax narrates; errors are raised
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics["metric"],
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        )
        newest = policies.LatestN(keep_last)
        if distributed.is_main():
            for half_written in folder.glob("*.orbax-checkpoint-tmp"):  # by a kill or a full disk
                shutil.rmtree(half_written, ignore_errors=True)
        self._folder = folder
        self._checkpointer = ocp.training.Checkpointer(
            folder,
            preservation_policy=policies.AnyPreservationPolicy([newest, best]),
        )

    def save(
        self, step: int, *, best: Tree, state: Tree, loop: dict[str, Any], metric: float | None
    ) -> None:
        """Begins to save one step; the arrays may be donated as soon as this returns.

        Waits until the save before is on disk, so that one is under way at a time.

        Args:
            step: optimizer steps taken.
            best: tree of arrays.
            state: likewise.
            loop: JSON-like.
            metric: of the evaluation at this step, higher is better; None without one.

        Raises:
            UserError: when the disk is full or not writable, told by this save or the one before.
        """
        parts = {"best": best, "state": state, "loop": loop}
        metrics = None if metric is None else {"metric": metric}
        with self._disk_errors():
            self._checkpointer.wait()
            self._checkpointer.save_checkpointables_async(
                step, parts, metrics=metrics, force=True, overwrite=True
            )

    def wait(self) -> None:
        """Returns when every save is complete on disk.

        Raises:
            UserError: as `save`.
        """
        with self._disk_errors():
            self._checkpointer.wait()

    def restore(self, *, best: Tree, state: Tree) -> tuple[int, Tree, Tree, dict[str, Any]] | None:
        """Restores the newest readable step into trees of abstract arrays with shardings.

        Args:
            best: tree of `jax.ShapeDtypeStruct` with shardings.
            state: likewise.

        Returns:
            (step, best, state, loop), or None when there is no checkpoint.
        """
        for step in self._steps():
            parts = self._read(step, {"best": best, "state": state, "loop": None})
            if parts is not None:
                return step, parts["best"], parts["state"], parts["loop"]
        return None

    def restore_best(self, best: Tree) -> Tree:
        """Restores only `best` of the newest readable step.

        Raises:
            UserError: when there is no readable checkpoint.
        """
        for step in self._steps():
            parts = self._read(step, {"best": best})
            if parts is not None:
                return parts["best"]
        raise UserError(f"no readable checkpoint in {self._folder}; redo the stage that writes it")

    def close(self) -> None:
        """Waits as `wait` does, and ends background work."""
        with self._disk_errors():
            self._checkpointer.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) and not _tells_of_the_disk(error):
                raise
            raise UserError(
                f"cannot save a checkpoint in {self._folder}: {error}; the one before is kept, "
                "the same command goes on from it"
            ) from error

    def _read(self, step: int, like: dict[str, Tree]) -> dict[str, Tree] | None:
        """Returns parts of a step, None where one process cannot read them."""
        parts = None
        try:
            parts = self._checkpointer.load_checkpointables(step, like)
        except (OSError, ValueError, KeyError) as error:
            logging.warning("checkpoint %s/%s is unreadable: %s", self._folder, step, error)
        return None if distributed.agree(parts is None) else parts

    def _steps(self) -> list[int]:
        return sorted((meta.step for meta in self._checkpointer.checkpoints), reverse=True)


def abstract(tree: Tree) -> Tree:
    """Returns the tree's shapes, dtypes and shardings without its values."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def _tells_of_the_disk(error: Exception) -> bool:
    return any(reason in str(error) for reason in _DISK_TROUBLE)
