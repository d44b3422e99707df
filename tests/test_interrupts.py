"""A stop signal ends the run with code 42, whatever the library that met it makes of it."""

import json
import os
import signal
from pathlib import Path

import pytest

from recjax import interrupts, main, stages
from recjax.errors import Interrupted, UserError


@pytest.fixture(autouse=True)
def restore_signals():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    interrupts.install()  # forgets the signal, or training in later tests would stop
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("answer", [RuntimeError("Query interrupted"), UserError("no such file")])
def test_signal_that_a_library_turns_into_its_own_error_is_an_interruption(
    answer, monkeypatch, capsys, tmp_path
) -> None:
    def run_stage(stage, context):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            raise answer from None

    assert _run(run_stage, monkeypatch, tmp_path) == main.INTERRUPTED
    out, err = capsys.readouterr()
    assert "the same command resumes" in out and "Traceback" not in err
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "interrupted"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is the point
def test_signal_that_a_finaliser_swallows_stops_the_run_at_the_end_of_its_stage(
    monkeypatch, tmp_path
) -> None:
    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    began = []

    def run_stage(stage, context):
        began.append(stage)
        Dying()  # freed at once: the exception is printed and dropped

    assert _run(run_stage, monkeypatch, tmp_path, "prepare,expand") == main.INTERRUPTED
    assert began == ["prepare"]


def test_error_without_a_signal_is_a_failure(monkeypatch, capsys, tmp_path) -> None:
    def run_stage(stage, context):
        raise RuntimeError("Query interrupted")

    assert _run(run_stage, monkeypatch, tmp_path) == main.FAILED
    assert "Traceback" in capsys.readouterr().err
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "failed"
    interrupts.raise_if_requested()


def _run(run_stage, monkeypatch, folder, names="prepare") -> int:
    monkeypatch.setattr(stages, "_run_stage", run_stage)
    config = Path(__file__).parents[1] / "configs/smoke.py"
    return main.main(["--config", str(config), "--workdir", str(folder), "--stages", names])


def test_signal_is_held_back_inside_deferred() -> None:
    interrupts.install()
    with pytest.raises(Interrupted), interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.stop_requested()
