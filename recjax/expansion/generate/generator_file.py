"""A fitted generator as named arrays and as one .npz file.

Not here: fitting it (`generator`). Nothing is pickled, so a foreign file cannot run code.
"""

import dataclasses
import os

import jax
import numpy as np

from recjax import hmm
from recjax.expansion.array_file import load_arrays, save_arrays
from recjax.expansion.generate.clock import Clock
from recjax.expansion.generate.generator import GeneratorConfig, GeneratorState


def to_arrays(state: GeneratorState) -> dict[str, np.ndarray]:
    """Returns the generator as named numpy arrays."""
    arrays = {f"hmm.{name}": value for name, value in hmm.to_arrays(state.params).items()}
    for field in dataclasses.fields(Clock):
        arrays[f"clock.{field.name}"] = np.asarray(getattr(state.clock, field.name))
    for name, value in dataclasses.asdict(state.config).items():
        arrays[f"config.{name}"] = np.asarray(value)
    for name in ("item_ids", "held_out_scores", "history"):
        arrays[name] = getattr(state, name)
    return arrays


def from_arrays(arrays: dict[str, np.ndarray]) -> GeneratorState:
    """Returns the generator that `to_arrays` took apart.

    Raises:
        ValueError: if an array is missing.
    """

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    try:
        return GeneratorState(
            GeneratorConfig(**{name: value.item() for name, value in part("config.").items()}),
            jax.tree.map(jax.numpy.asarray, hmm.from_arrays(part("hmm."))),
            arrays["item_ids"],
            Clock(**part("clock.")),
            arrays["held_out_scores"],
            arrays["history"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the arrays of a generator: {error}") from error


def save_generator(path: str | os.PathLike[str], state: GeneratorState) -> None:
    """Writes the generator as one .npz file, whole or not at all."""
    save_arrays(path, to_arrays(state))


def load_generator(path: str | os.PathLike[str]) -> GeneratorState:
    """Returns the generator of a file of `save_generator`; draws are the same as before."""
    return from_arrays(load_arrays(path))
