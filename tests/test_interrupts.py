"""A stop signal ends the run with code 42, whatever the library that met it makes of it."""

import os
import signal

import pytest

from recjax import interrupts, main
from recjax.errors import Interrupted, UserError


@pytest.fixture(autouse=True)
def keep_handlers():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("answer", [RuntimeError("Query interrupted"), UserError("no such file")])
def test_signal_that_a_library_turns_into_its_own_error_is_an_interruption(
    answer, monkeypatch, capsys
) -> None:
    def run(argv, console):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            raise answer from None

    monkeypatch.setattr(main, "_run", run)
    assert main.main(["--workdir", "x"]) == main.INTERRUPTED
    out, err = capsys.readouterr()
    assert "the same command resumes" in out and "Traceback" not in err


def test_error_without_a_signal_is_a_failure(monkeypatch, capsys) -> None:
    def run(argv, console):
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr(main, "_run", run)
    assert main.main(["--workdir", "x"]) == main.FAILED
    assert "Traceback" in capsys.readouterr().err
    interrupts.raise_if_requested()


def test_signal_is_held_back_inside_deferred() -> None:
    interrupts.install()
    with pytest.raises(Interrupted), interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.stop_requested()
