import dataclasses
import gzip
import json

import jax
import pytest
from rich.console import Console
from toy_training import ENGINE, make_training

from recjax import profiling
from recjax.logs import Progress
from recjax.profiling import ProfileWindow
from recjax.stopwatch import Stopwatch
from recjax.train import train
from recjax.workdir import Workdir


def test_trace_of_the_asked_steps_lies_in_the_training_folder(tmp_path):
    training = make_training(tmp_path / "run", num_steps=8)
    loop = dataclasses.replace(training.loop, profile_start_step=3, profile_num_steps=2)
    progress = Progress(Workdir.open(tmp_path / "work"), Console(quiet=True))
    train(dataclasses.replace(training, loop=loop), ENGINE, progress)
    (trace,) = (tmp_path / "run").glob("profile/plugins/profile/*/*.trace.json.gz")
    assert list(trace.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert sorted(map(int, steps)) == [3, 4]


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (1, 9, ["start", 3, 4, "stop"]),
        (4, 9, ["start", 4, "stop"]),  # resumed inside the window
        (1, 3, ["start", 3, "stop"]),  # stopped inside it
        (5, 9, []),
    ],
)
def test_window_opens_and_closes_once(tmp_path, monkeypatch, first, last, said):
    told = []
    monkeypatch.setattr(profiling.jax.profiler, "start_trace", lambda f: told.append("start"))
    monkeypatch.setattr(profiling.jax.profiler, "stop_trace", lambda: told.append("stop"))
    window = ProfileWindow(tmp_path, 3, 2, Stopwatch(lambda batch: 0.0, jax.devices()))
    for step in range(first, last + 1):
        with window.step(step):
            told += [step] if "start" in told and "stop" not in told else []
    window.close()
    assert told == said


def test_no_window_no_trace(tmp_path):
    progress = Progress(Workdir.open(tmp_path / "work"), Console(quiet=True))
    train(make_training(tmp_path / "run", num_steps=12), ENGINE, progress)
    assert not (tmp_path / "run" / "profile").exists()
