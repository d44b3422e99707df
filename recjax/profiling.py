"""A profiler trace of a few training steps, for TensorBoard's profile plugin and Perfetto."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from recjax.stopwatch import Stopwatch


class ProfileWindow:
    """Traces the steps [start_step, start_step + num_steps) into a folder.

    Args:
        folder: gets plugins/profile/TIME/HOST.xplane.pb and HOST.trace.json.gz.
        start_step: first step that is traced, counted from 1; a training that is resumed inside
            the window traces what is left of it.
        num_steps: 0: never.
        watch: stands still while a trace is begun and written.
    """

    def __init__(self, folder: Path, start_step: int, num_steps: int, watch: Stopwatch) -> None:
        self._folder, self._watch = folder, watch
        self._steps = range(start_step, start_step + num_steps)
        self._running = False

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Marks a step; the trace begins before the window's first, ends after its last."""
        if number not in self._steps:
            self.close()
            yield
            return
        if not self._running:
            with self._watch.paused():
                jax.profiler.start_trace(self._folder)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def close(self) -> None:
        """Writes the trace if one is running; waits for the devices."""
        if self._running:
            with self._watch.paused():
                jax.profiler.stop_trace()
        self._running = False
