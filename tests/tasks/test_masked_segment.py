import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.losses import info_nce
from recjax.models import unit_vectors
from recjax.tasks import MaskedSegment
from recjax.tasks.sequences import pool

LENGTHS = [[5, 4, 3], [12], [1, 1, 2], [6, 2]]


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_span_is_what_the_hole_lacks_and_nothing_else_tells_it(encoder_config, make_batch):
    task, batch = MaskedSegment(encoder_config), make_batch(LENGTHS * 10)
    holed, spans = (
        {k: np.asarray(v) for k, v in part.items()} for part in task.cut(batch, _keys(40))
    )
    before = {name: np.asarray(value) for name, value in batch.items()}
    for row, number in zip(*np.nonzero(before["segments"] > 0), strict=True):
        number = before["segments"][row, number]
        whole, left = before["segments"][row] == number, spans["segments"][row] == number
        if whole.sum() <= 3:
            assert not left.any() and (holed["items"][row][whole] != 4).all()
            continue
        at = np.flatnonzero(left)
        assert len(at) == 3 and at[2] - at[0] == 2
        np.testing.assert_array_equal(spans["items"][row][at], before["items"][row][at])
        np.testing.assert_array_equal(spans["positions"][row][at], range(3))
        hidden = {"items": 4, "actions": 4, "gaps": 6}
        for name, value in hidden.items():
            assert (holed[name][row][at] == value).all()
            others = whole & ~left
            np.testing.assert_array_equal(holed[name][row][others], before[name][row][others])


def test_loss_compares_the_spans_of_all_rows(encoder_config, make_batch, constants):
    task, batch = MaskedSegment(encoder_config, temperature=0.5), make_batch(LENGTHS)
    params, keys = jax.jit(task.init)(jax.random.key(0)), _keys(4)
    pairs = [(0, 1), (0, 2), (1, 1), (3, 1)]  # those of more than three events

    @jax.jit
    def run(params, batch):
        loss = task.loss(params, batch, constants, keys=keys, train=False)[task.name]
        numbers, vectors = jnp.broadcast_to(jnp.arange(4)[None], (4, 4)), []
        for part in task.cut(batch, keys):
            hidden = task.encode(params, part, constants, causal=False)
            vectors.append(pool(hidden, part["segments"], numbers, causal=False))
        return loss, vectors[0], task._apply_head(params, vectors[1])

    (total, weight), *vectors = run(params, batch)
    sequences, spans = (jnp.stack([part[pair] for pair in pairs]) for part in vectors)
    weights = jnp.stack(
        [batch["weights"][row, at] for row, at in ((0, 4), (0, 8), (1, 11), (3, 5))]
    )
    sides = unit_vectors(sequences), unit_vectors(spans)
    expected = info_nce(*sides, jnp.arange(4), weights, jnp.float32(2))
    np.testing.assert_allclose((total, weight), expected, rtol=1e-4)


def test_settings_count(encoder_config, make_batch, constants):
    batch = make_batch(LENGTHS)
    batch["weights"] = jnp.ones_like(batch["weights"])
    for change, expected in (({"span_len": 2}, 5.0), ({"sequences_per_row": 1}, 3.0)):
        task = MaskedSegment(encoder_config, **change)
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
        loss = jax.jit(lambda p, b, t=task: t.loss(p, b, constants, keys=None, train=False))
        assert float(loss(params, batch)[task.name][1]) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"span_len": 0}, "span_len must be at least 1"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"sequences_per_row": 0}, "sequences_per_row must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(encoder_config, change, message):
    with pytest.raises(ValueError, match=message):
        MaskedSegment(encoder_config, **change)
