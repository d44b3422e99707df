"""SIGTERM and Ctrl-C: raise at once in ordinary stages, wait for the step's end while training.

Stages write beside and rename, so an exception anywhere leaves no half-written artefact. Python
drops one that is raised in a finaliser, so the end of every stage asks again. The train loop asks
`stop_requested()` between steps instead, saves, and raises `Interrupted` itself.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from recjax.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _State:
    requested = False
    deferred = 0


def install() -> None:
    """Makes SIGTERM and SIGINT end the run with `Interrupted` (exit code 42)."""
    _State.requested = False
    for number in _SIGNALS:
        signal.signal(number, _handle)


def stop_requested() -> bool:
    """Returns whether a stop signal has arrived."""
    return _State.requested


def raise_if_requested() -> None:
    """Raises `Interrupted` when a stop signal has arrived."""
    if _State.requested:
        raise Interrupted("stopped by a signal")


def stop() -> NoReturn:
    """Ends the run as if a signal had come: another process has had one.

    Raises:
        Interrupted: always.
    """
    _State.requested = True
    raise Interrupted("stopped by a signal")


def ignore() -> None:
    """Lets signals do nothing from here on: the program is at its end."""
    _State.deferred += 1


@contextmanager
def deferred() -> Iterator[None]:
    """Holds signals back: inside, only `stop_requested` turns true.

    Raises:
        Interrupted: on leaving the block, when a signal came inside it.
    """
    _State.deferred += 1
    try:
        yield
    finally:
        _State.deferred -= 1
    if not _State.deferred:
        raise_if_requested()


def _handle(number: int, frame: FrameType | None) -> None:
    del number, frame
    _State.requested = True
    if not _State.deferred:
        raise Interrupted("stopped by a signal")
