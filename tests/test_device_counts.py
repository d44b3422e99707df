"""One device, eight devices and pmap train the real tasks to the same losses, dropout included."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from tiny_training import TASKS, one_device, train_steps

from recjax.parallel import PmapEngine, make_engine, make_mesh


def losses_of(engine, name):
    return train_steps(engine, name, 20)[0]


# One task in the quick suite, the others in the slow one: compiles are all the cost.
EVERY_TASK = pytest.mark.parametrize(
    "name",
    ["next_item", *(pytest.param(n, marks=pytest.mark.slow) for n in TASKS if n != "next_item")],
)


@EVERY_TASK
def test_losses_agree_on_one_and_eight_devices(name):
    assert jax.device_count() == 8
    eight = losses_of(make_engine("jit", {"data": -1}), name)
    assert len(np.unique(eight)) > 20  # two members, twenty different steps
    np.testing.assert_allclose(eight, losses_of(one_device(), name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "click" else pytest.mark.slow) for n in TASKS]
)
def test_losses_agree_by_pmap(name, monkeypatch):
    if name == "mixture":  # pmap is refused where rows are compared
        monkeypatch.setitem(TASKS, name, of_single_rows(TASKS[name]))
    pmapped = losses_of(PmapEngine(make_mesh({"data": -1})), name)
    np.testing.assert_allclose(pmapped, losses_of(one_device(), name), rtol=1e-5, atol=1e-5)


def of_single_rows(mixture):
    kept = [not objective.whole_batch for objective in mixture.objectives]
    assert 0 < sum(kept) < len(kept)
    return dataclasses.replace(
        mixture,
        objectives=tuple(itertools.compress(mixture.objectives, kept)),
        weights=tuple(itertools.compress(mixture.weights, kept)),
    )
