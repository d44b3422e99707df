import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses import info_nce
from recjax.models import unit_vectors
from recjax.tasks import SequenceContrast
from recjax.tasks.sequences import pool

LENGTHS = [[5, 4, 3], [12], [1, 1, 2], [6, 2]]
FIELDS = ("items", "positions", "segments")


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def _views(task, batch, keys):
    return [view for view, _ in jax.jit(task.views)(batch, keys)]


def test_only_views_that_differ_from_each_other_and_the_original_are_compared(
    encoder_config, make_batch
):
    batch = make_batch([[5, 4, 3], [2, 2, 2, 2]] * 100)
    task, keys = SequenceContrast(encoder_config), _keys(200)
    pairs = jax.jit(task.views)(batch, keys)
    (one, _), (other, _) = pairs
    picked = np.asarray(task._pick(batch, pairs, keys)[0])
    segments = np.asarray(batch["segments"])
    for a, b in ((one, other), (one, batch), (other, batch)):
        differs = np.stack([np.asarray(a[name] != b[name]) for name in FIELDS]).any(axis=0)
        for row, number in zip(*np.nonzero(picked), strict=True):
            assert differs[row][segments[row] == picked[row, number]].any()
    assert (picked > 0).sum() > 0.95 * (3 + 4) * 100


def test_loss_compares_the_picked_sequences_of_all_rows(encoder_config, make_batch, constants):
    """By hand: two summaries of each of the seven sequences of two and more, all against all."""
    batch = make_batch(LENGTHS)
    task = SequenceContrast(encoder_config, temperature=0.5)
    params, keys = jax.jit(task.init)(jax.random.key(0)), _keys(4)
    pairs = [(0, 1), (0, 2), (0, 3), (1, 1), (2, 3), (3, 1), (3, 2)]

    @jax.jit
    def run(params, batch, keys):
        loss = task.loss(params, batch, constants, keys=keys, train=False)[task.name]
        vectors = []
        for view, _ in task.views(batch, keys):
            hidden = task.encode(params, view, constants, causal=False)
            numbers = jnp.broadcast_to(jnp.arange(4)[None], (4, 4))
            vectors.append(
                task._apply_head(params, pool(hidden, view["segments"], numbers, causal=False))
            )
        return loss, vectors

    (total, weight), vectors = run(params, batch, keys)
    one, other = (jnp.stack([part[pair] for pair in pairs]) for part in vectors)
    segments = np.asarray(batch["segments"])
    last = [np.flatnonzero(segments[row] == number)[-1] for row, number in pairs]
    weights = jnp.stack(
        [batch["weights"][row, at] for (row, _), at in zip(pairs, last, strict=True)]
    )
    sides = unit_vectors(one), unit_vectors(other)
    expected = info_nce(*sides, jnp.arange(7), weights, jnp.float32(2))
    np.testing.assert_allclose((total, weight), expected, rtol=1e-4)


def test_each_setting_changes_the_views_or_the_number_compared(encoder_config, make_batch):
    batch, keys = make_batch([[12]] * 12), _keys(12)
    task = SequenceContrast(encoder_config)
    base = _views(task, batch, keys)
    changes = [{"augmentations": ("crop", "mask")}]
    changes += [{name: 0.9} for name in ("crop_share", "mask_share", "reorder_share")]
    for change in changes:
        views = _views(dataclasses.replace(task, **change), batch, keys)
        assert not np.array_equal(views[0]["items"], base[0]["items"])


def test_no_more_sequences_of_a_row_than_asked_for(encoder_config, make_batch, constants):
    batch = make_batch([[3, 3, 3, 3]] * 2)
    batch["weights"] = jnp.ones_like(batch["weights"])
    for most, expected in ((3, 6.0), (9, 8.0)):
        task = SequenceContrast(encoder_config, sequences_per_row=most)
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
        loss = jax.jit(lambda p, b, t=task: t.loss(p, b, constants, keys=None, train=False))
        assert float(loss(params, batch)[task.name][1]) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentations": ("crop",)}, "two or more of crop, mask, reorder"),
        ({"augmentations": ("crop", "flip")}, "two or more of crop, mask, reorder"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"sequences_per_row": 0}, "sequences_per_row must be at least 1"),
        ({"crop_share": 1.0}, "crop_share"),
    ],
)
def test_settings_out_of_range_are_named(encoder_config, change, message):
    with pytest.raises(ValueError, match=message):
        SequenceContrast(encoder_config, **change)
