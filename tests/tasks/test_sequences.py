import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.tasks import NextItem
from recjax.tasks.sequences import draw_window, keep_only, pool, select_sequences, spans_of

LENGTHS = [[5, 4, 3], [12], [1, 1, 2], []]


def test_spans_equal_a_loop(make_batch):
    spans = spans_of(make_batch(LENGTHS)["segments"])
    expected = np.zeros((3, 4, 12), np.int32)
    for row, users in enumerate(LENGTHS):
        begin = 0
        for count in users:
            for place in range(count):
                expected[:, row, begin + place] = begin, count, place
            begin += count
    np.testing.assert_array_equal(jnp.stack(spans), expected)


def test_windows_are_neighbours_and_every_start_is_as_likely(make_batch):
    batch = make_batch([[5, 4, 3]] * 3000)
    keys = jax.random.split(jax.random.key(0), 3000)
    inside, first = draw_window(keys, 7, spans_of(batch["segments"]), 3)
    inside, first = np.asarray(inside), np.asarray(first)
    for begin, count in ((0, 5), (5, 4), (9, 3)):
        part, starts = inside[:, begin : begin + count], first[:, begin]
        assert (part.sum(axis=1) == 3).all()
        assert all(row[at : at + 3].all() for row, at in zip(part, starts, strict=True))
        shares = np.bincount(starts, minlength=count - 2) / 3000
        np.testing.assert_allclose(shares, 1 / (count - 2), atol=0.04)


def test_events_outside_a_window_might_never_have_been(encoder_config, make_batch, constants, init):
    batch, task = make_batch([[5, 4], [8]]), NextItem(encoder_config)
    keys = jax.random.split(jax.random.key(1), 2)
    inside, first = draw_window(keys, 0, spans_of(batch["segments"]), 3)
    kept = keep_only(batch, inside, first)
    encode = jax.jit(lambda p, b: task.encode(p, b, constants, causal=False))
    params = init(task)
    hidden = encode(params, kept)
    at = np.flatnonzero(np.asarray(inside[0] & (batch["segments"][0] == 2)))
    alone = {name: value[:1] * 0 for name, value in batch.items()}
    for name in ("items", "actions", "gaps"):
        alone[name] = alone[name].at[0, :3].set(batch[name][0, at])
    alone["positions"] = alone["positions"].at[0, :3].set(jnp.arange(3))
    alone["segments"] = alone["segments"].at[0, :3].set(1)
    both = {name: jnp.concatenate([value, batch[name][1:]]) for name, value in alone.items()}
    np.testing.assert_allclose(hidden[0, at], encode(params, both)[0, :3], atol=1e-5)


def test_selection_takes_allowed_sequences_in_order(make_batch):
    batch = make_batch(LENGTHS)
    batch["weights"] = batch["weights"].at[0, 4].set(0)  # the last event of 0's first sequence
    spans = spans_of(batch["segments"])
    order = jnp.linspace(0.9, 0, 12)[None] + jnp.zeros((4, 1))  # later first
    numbers, weights = select_sequences(batch, spans.length > 1, 2, order)
    np.testing.assert_array_equal(numbers, [[3, 2], [1, 0], [3, 0], [0, 0]])
    last = [[11, 8], [11, None], [3, None], [None, None]]
    for row, slot in np.ndindex(4, 2):
        at = last[row][slot]
        expected = 0 if at is None else batch["weights"][row, at]
        assert float(weights[row, slot]) == float(expected)


@pytest.mark.parametrize("causal", [True, False])
def test_summaries_equal_a_loop(make_batch, causal):
    segments = make_batch(LENGTHS)["segments"]
    hidden = np.random.default_rng(0).normal(size=(4, 12, 3)).astype(np.float32)
    numbers = jnp.array([[3, 1], [1, 0], [2, 3], [0, 0]])
    found = pool(jnp.asarray(hidden), segments, numbers, causal=causal)
    for row, slot in np.ndindex(4, 2):
        events = hidden[row][np.asarray(segments[row]) == int(numbers[row, slot])]
        empty = int(numbers[row, slot]) == 0
        expected = np.zeros(3) if empty else events[-1] if causal else events.mean(axis=0)
        np.testing.assert_allclose(found[row, slot], expected, atol=1e-6)
