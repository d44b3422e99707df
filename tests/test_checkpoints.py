"""Saves in the background: exact whatever training does meanwhile, and honest about a full disk."""

import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.checkpoints import Checkpoints, abstract
from recjax.errors import UserError


def make_tree(step):
    return {"a": jnp.full((64, 32), float(step)), "b": jnp.arange(3.0) + step}


def save_tree(checkpoints, step, tree, metric=None):
    checkpoints.save(step, best=tree, state=tree, loop={"pointer": step}, metric=metric)


def save(checkpoints, step, metric=None):
    save_tree(checkpoints, step, make_tree(step), metric)


def restore(checkpoints):
    like = abstract(make_tree(0))
    return checkpoints.restore(best=like, state=like)


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_newest_and_best_steps_are_kept_by_this_and_the_next_run(tmp_path):
    for first, metrics in ((1, {1: 0.1, 2: 0.9, 4: 0.5}), (7, {7: 0.7})):
        checkpoints = Checkpoints(tmp_path, keep_last=2, keep_best=2)
        for step in range(first, first + 6):
            save(checkpoints, step, metrics.get(step))
        checkpoints.close()
        assert steps_in(tmp_path) == ([2, 4, 5, 6] if first == 1 else [2, 7, 11, 12])


def test_arrays_may_be_donated_while_they_are_written(tmp_path):
    """The step that follows a save takes the very buffers that are being written."""
    checkpoints = Checkpoints(tmp_path, keep_last=3)
    advance = jax.jit(lambda x: x * 1.5 + 1.0, donate_argnums=0)
    state, seen = jnp.arange(500_000.0), {}
    for step in range(1, 4):
        for _ in range(5):
            state = advance(state)
        seen[step] = np.array(state)
        save_tree(checkpoints, step, {"x": state})
    for _ in range(20):
        state = advance(state)
    checkpoints.wait()
    like = abstract({"x": state})
    step, _, restored, _ = checkpoints.restore(best=like, state=like)
    assert step == 3
    np.testing.assert_array_equal(restored["x"], seen[3])
    checkpoints.close()


@pytest.fixture
def small_files(monkeypatch):
    """A function that lets no file grow: the kernel answers a write as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda on: resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000 if on else limits[0], limits[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_is_told_once_and_the_step_before_is_intact(tmp_path, small_files, capfd):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, keep_last=1)
    save(checkpoints, 1)
    checkpoints.wait()
    small_files(True)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)))  # does not compress
    with pytest.raises(UserError, match=f"cannot save a checkpoint in {folder}.*too large"):
        save_tree(checkpoints, 2, {"x": noise})
        checkpoints.wait()
    small_files(False)
    checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err

    again = Checkpoints(folder, keep_last=1)
    step, best, state, loop = restore(again)
    assert (step, loop) == (1, {"pointer": 1})
    jax.tree.map(np.testing.assert_array_equal, (best, state), (make_tree(1),) * 2)
    save(again, 2)
    again.close()
    assert steps_in(folder) == [2]  # and nothing half written beside it
