"""What no training step may do: move data unasked, or be compiled a second time.

Both would make a run slow without a word. They are defects of the program, not of its input, so
they end the run with the error that JAX raises.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np


class StepGuard:
    """Guards the steps of one training; one trace per shape of batch is allowed."""

    def __init__(self) -> None:
        self._seen: set[frozenset[tuple[str, tuple[int, ...], str]]] = set()

    @contextmanager
    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Guards the put of a host batch and the step on it.

        Only what asks for a transfer by name (`jax.device_put`) may go between host and devices,
        and once a batch of these shapes has been seen, nothing may be traced or compiled.

        Raises:
            RuntimeError: by JAX, naming the array's shape or the function.
        """
        shapes = frozenset((name, x.shape, str(x.dtype)) for name, x in batch.items())
        with (
            jax.transfer_guard_host_to_device("disallow"),
            jax.transfer_guard_device_to_host("disallow"),
            jax.no_tracing(shapes in self._seen),
        ):
            yield
        self._seen.add(shapes)
