"""The split of a step's time, with a clock that the test turns and devices that it finishes."""

import jax
import numpy as np
import pytest

from recjax import stopwatch
from recjax.parallel import hardware
from recjax.stopwatch import Stopwatch, num_examples, num_tokens, summarise

SEGMENTS = np.array([[[1, 1, 2, 0], [1, 0, 0, 0]]], np.int32)  # 3 users, 4 events, 4 padded
BATCH = {"segments": SEGMENTS, "row": np.zeros((1, 2), np.int32)}


class Clock:
    """What the stopwatch takes for time; `device` is when the device is done with its work."""

    def __init__(self, monkeypatch):
        self.now = self.device = 0.0
        monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: self.now)

    def is_ready(self):
        return self.now >= self.device

    def block_until_ready(self):
        self.now = max(self.now, self.device)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def take_step(watch, clock, *, wait, host, device):
    with watch.data():
        clock.now += wait
    with watch.host():
        clock.now += host
        clock.device = max(clock.device, clock.now) + device
    watch.count(BATCH, {"train/loss": clock})


def test_shares_add_up_and_the_first_step_is_left_out(clock):
    watch = Stopwatch(lambda batch: 0.0, jax.devices())
    take_step(watch, clock, wait=50.0, host=100.0, device=50.0)  # compiles
    for _ in range(4):
        take_step(watch, clock, wait=0.5, host=0.5, device=3.0)
    row = watch.read()
    assert row["time/first_step_seconds"] == 200
    assert row["time/steps"] == 4
    assert row["time/step_seconds"] == pytest.approx(13 / 4)  # 1 before the first, then the device
    assert row["time/data_wait_share"] == pytest.approx(2 / 13)
    assert row["time/host_share"] == pytest.approx(2 / 13)
    assert row["time/device_share"] == pytest.approx(9 / 13)
    assert row["throughput/examples_per_second"] == pytest.approx(4 * 3 / 13)
    assert row["throughput/tokens_per_second"] == pytest.approx(4 * 4 / 13)


@pytest.mark.parametrize(("wait", "starved"), [(2.0, 0.0), (8.0, 4 * 8 / 40)])
def test_device_waits_only_when_it_has_nothing_left_to_do(clock, wait, starved):
    watch = Stopwatch(lambda batch: 0.0, jax.devices())
    take_step(watch, clock, wait=0, host=0, device=0)
    take_step(watch, clock, wait=0, host=2.0, device=4.0)
    for _ in range(4):
        take_step(watch, clock, wait=wait, host=0, device=4.0)
    row = watch.read()
    seconds = row["time/steps"] * row["time/step_seconds"]
    assert row["time/data_wait_share"] * seconds == pytest.approx(4 * wait)
    assert row["time/device_wait_share"] == pytest.approx(4 * wait / seconds if starved else 0)


def test_pauses_are_no_part_of_a_step(clock):
    watch = Stopwatch(lambda batch: 0.0, jax.devices())
    for _ in range(3):
        take_step(watch, clock, wait=0, host=1.0, device=1.0)
        with watch.paused():
            clock.now += 1000
    assert watch.read()["time/step_seconds"] == pytest.approx(2)
    assert "time/step_seconds" not in watch.read()  # a window without a step


def test_utilisation_is_given_where_the_peak_is_known(clock, monkeypatch):
    monkeypatch.setattr(hardware, "PEAK_FLOPS", {jax.devices()[0].device_kind: 50.0})
    asked = []
    watch = Stopwatch(lambda batch: asked.append(batch) or 100.0, jax.devices()[:2])
    for _ in range(3):
        take_step(watch, clock, wait=0, host=0, device=4.0)
    row = watch.read()
    assert row["throughput/model_flops_utilisation"] == pytest.approx(100 / 4 / (2 * 50))
    assert len(asked) == 1


def test_examples_and_tokens_leave_padding_out():
    assert num_examples(BATCH) == 3 and num_tokens(BATCH) == 4
    plain = {"x": np.zeros((2, 5, 3))}
    assert num_examples(plain) == 10 and num_tokens(plain) == 0


def test_summary_weighs_windows_by_their_seconds():
    names = ("time/data_wait_share", "time/device_wait_share", "time/host_share")
    names += ("throughput/examples_per_second", "throughput/tokens_per_second")
    rows = [
        {"time/steps": steps, "time/step_seconds": seconds, **dict.fromkeys(names, value)}
        for steps, seconds, value in ((10, 0.1, 0.4), (1, 3.0, 0.0))
    ] + [{"time/steps": 0.0}]
    found = summarise(rows)
    assert found["step_seconds"] == pytest.approx(4 / 11)
    assert found["data_wait_share"] == found["tokens_per_second"] == pytest.approx(0.1)
    assert "model_flops_utilisation" not in found and summarise([]) == {}
