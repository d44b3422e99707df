"""Named arrays in one .npz file: the fitted generator, the lists of similar items."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays whole or not at all, and makes the folder."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, target)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of `save_arrays`."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
