from dataclasses import replace

import numpy as np
import pytest
from small_params import CONFIG

from recjax.optim import make_schedule

BASE = replace(CONFIG, learning_rate=1.0, warmup_steps=10, num_steps=110, decay_share=0.25)


@pytest.mark.parametrize(
    ("schedule", "steps", "values"),
    [
        ("constant", (0, 5, 10, 109), (0, 0.5, 1, 1)),
        ("linear", (0, 5, 10, 60, 110), (0, 0.5, 1, 0.5, 0)),
        ("cosine", (0, 5, 10, 35, 60, 110), (0, 0.5, 1, 0.5 + 0.5**1.5, 0.5, 0)),
        ("rsqrt", (0, 5, 10, 40, 90, 1000), (0, 0.5, 1, 0.5, 1 / 3, 0.1)),
        ("wsd", (0, 5, 10, 82, 96, 110), (0, 0.5, 1, 1, 0.5, 0)),
    ],
)
def test_rate_warms_up_and_takes_its_course(schedule, steps, values):
    rate = make_schedule(replace(BASE, schedule=schedule))
    np.testing.assert_allclose([float(rate(step)) for step in steps], values, atol=1e-6)


def test_without_warmup_the_peak_comes_first():
    for schedule in ("constant", "linear", "cosine", "rsqrt", "wsd"):
        rate = make_schedule(replace(BASE, schedule=schedule, warmup_steps=0))
        assert float(rate(0)) == 1.0


def test_share_of_wsd_says_where_the_fall_begins():
    rate = make_schedule(replace(BASE, schedule="wsd", decay_share=0.5))
    np.testing.assert_allclose([float(rate(step)) for step in (55, 82.5)], [1, 0.5], atol=1e-6)
