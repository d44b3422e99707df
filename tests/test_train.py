import functools
import os
import signal
import time

import jax
import numpy as np
import pytest
from rich.console import Console
from toy_training import ToyBatches, make_training

from recjax import interrupts
from recjax.checkpoints import abstract
from recjax.errors import Interrupted
from recjax.logs import Progress, read_metrics
from recjax.parallel import make_engine
from recjax.train import NonFiniteError, load_best, read_summary, train
from recjax.workdir import Workdir


@pytest.fixture
def progress(tmp_path):
    return Progress(Workdir.open(tmp_path / "work"), Console(quiet=True))


@pytest.fixture
def engine():
    return make_engine("jit", {"data": -1})


def best_of(training, engine):
    like = training.init_params(jax.numpy.asarray([3, 4], "uint32"))
    return np.asarray(load_best(training.folder, abstract(like))["kernel"])


class StopAfter(ToyBatches):
    """Sends this process SIGTERM while handing out batch number `stop`."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def __next__(self):
        if self.pointer == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__next__()


def test_training_reaches_the_truth(tmp_path, engine, progress):
    training = make_training(tmp_path / "run")
    train(training, engine, progress)
    np.testing.assert_allclose(best_of(training, engine), [[1, -2, 0.5]] * 2, atol=0.25)
    assert read_summary(training.folder)["steps"] == 40
    steps = [row["step"] for row in read_metrics(training.folder / "metrics.jsonl")]
    assert steps == sorted(steps) and steps[-1] == 40


@pytest.mark.parametrize("stop", [0, 6, 13, 39])
def test_interrupted_training_ends_with_the_same_bits(tmp_path, engine, progress, stop):
    whole = make_training(tmp_path / "whole")
    train(whole, engine, progress)
    interrupts.install()
    with pytest.raises(Interrupted):
        train(make_training(tmp_path / "cut", batches=StopAfter(stop)), engine, progress)
    interrupts.install()
    resumed = make_training(tmp_path / "cut")
    train(resumed, engine, progress)
    np.testing.assert_array_equal(best_of(whole, engine), best_of(resumed, engine))
    assert read_metrics(whole.folder / "metrics.jsonl") == read_metrics(
        resumed.folder / "metrics.jsonl"
    )


def test_moving_average_is_judged_kept_and_resumed(tmp_path, engine, progress):
    judged = []

    def evaluate(params):
        judged.append(np.asarray(params["kernel"]))
        return np.zeros(2) + len(judged)

    make = functools.partial(make_training, ema_decay=0.9)
    whole = make(tmp_path / "whole", evaluate=evaluate)
    train(whole, engine, progress)
    np.testing.assert_array_equal(best_of(whole, engine), judged[-1])
    interrupts.install()
    with pytest.raises(Interrupted):
        train(make(tmp_path / "cut", evaluate=evaluate, batches=StopAfter(13)), engine, progress)
    interrupts.install()
    resumed = make(tmp_path / "cut", evaluate=evaluate)
    train(resumed, engine, progress)
    np.testing.assert_array_equal(best_of(whole, engine), best_of(resumed, engine))
    plain = make_training(tmp_path / "plain")
    train(plain, engine, progress)
    assert np.all(best_of(plain, engine) != best_of(whole, engine))


def test_finished_training_is_not_repeated(tmp_path, engine, progress):
    train(make_training(tmp_path / "run"), engine, progress)
    again = ToyBatches()
    train(make_training(tmp_path / "run", batches=again), engine, progress)
    assert again.pointer > 0 and again.get_state()["pointer"] == 40  # restored, not stepped


def test_unreadable_newest_checkpoint_falls_back(tmp_path, engine, progress, caplog):
    interrupts.install()
    with pytest.raises(Interrupted):
        train(make_training(tmp_path / "cut", batches=StopAfter(20)), engine, progress)
    interrupts.install()
    newest = max((tmp_path / "cut" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 0 and "state" in str(file):
            file.write_bytes(b"\0" * 3)
    resumed, whole = make_training(tmp_path / "cut"), make_training(tmp_path / "whole")
    train(resumed, engine, progress)
    train(whole, engine, progress)
    assert "unreadable" in caplog.text
    np.testing.assert_array_equal(best_of(whole, engine), best_of(resumed, engine))


def test_member_stops_early_and_keeps_its_best(tmp_path, engine, progress):
    scores = iter([[1.0, 1.0], [0.5, 2.0], [0.4, 3.0], [9.0, 4.0]])
    training = make_training(
        tmp_path / "run", evaluate=lambda params: np.array(next(scores)), patience=2
    )
    train(training, engine, progress)
    assert read_summary(training.folder)["best_metric"] == [1.0, 4.0]


def test_best_evaluations_are_kept_beside_the_newest(tmp_path, engine, progress):
    scores = {10: 3.0, 20: 9.0, 30: 1.0, 40: 2.0}
    for keep_best, kept in ((0, [35, 40]), (2, [10, 20, 35, 40])):
        values = iter(scores.values())
        training = make_training(
            tmp_path / f"{keep_best}",
            evaluate=lambda params, values=values: np.full(2, next(values)),
            keep_best=keep_best,
        )
        train(training, engine, progress)
        assert sorted(int(p.name) for p in (training.folder / "checkpoints").iterdir()) == kept


def test_non_finite_loss_stops_and_names_it(tmp_path, engine, progress):
    class Broken(ToyBatches):
        def __next__(self):
            batch = super().__next__()
            if self.pointer > 12:
                batch["y"][1] = np.nan
            return batch

    with pytest.raises(NonFiniteError, match=r"train/loss is nan for seed 4 in steps 10-14"):
        train(make_training(tmp_path / "run", batches=Broken()), engine, progress)
    whole, resumed = make_training(tmp_path / "whole"), make_training(tmp_path / "run")
    train(whole, engine, progress)
    train(resumed, engine, progress)  # from step 7, the last good one
    np.testing.assert_array_equal(best_of(whole, engine), best_of(resumed, engine))


def test_timings_lie_beside_the_metrics_and_reach_the_summary(tmp_path, engine, progress):
    training = make_training(tmp_path / "run")
    train(training, engine, progress)
    rows = read_metrics(training.folder / "timings.jsonl")
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [row["time/steps"] for row in rows] == [4.0] + [5.0] * 7  # the first one compiles
    for row in rows:
        shares = [row[f"time/{name}_share"] for name in ("data_wait", "host", "device")]
        assert sum(shares) == pytest.approx(1) and min(shares) >= 0
        assert 0 <= row["time/device_wait_share"] <= row["time/data_wait_share"]
    timings = read_summary(training.folder)["timings"]
    assert timings["examples_per_second"] == pytest.approx(32 / timings["step_seconds"])


def test_slow_batches_are_seen_as_waiting(tmp_path, engine, progress):
    class Slow(ToyBatches):
        def __next__(self):
            time.sleep(0.01)
            return super().__next__()

    training = make_training(tmp_path / "run", num_steps=11, batches=Slow())
    train(training, engine, progress)
    timings = read_summary(training.folder)["timings"]
    assert timings["step_seconds"] * timings["data_wait_share"] >= 0.01
    assert timings["device_wait_share"] > 0
