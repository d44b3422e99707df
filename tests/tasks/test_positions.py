import jax.numpy as jnp

from recjax.tasks import positions

SEGMENTS = jnp.array([[1, 1, 2, 3, 3, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])


def test_first_and_last_events_of_segments_are_found():
    assert positions.is_first(SEGMENTS).astype(int).tolist() == [
        [1, 0, 1, 1, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert positions.is_last(SEGMENTS).astype(int).tolist() == [
        [0, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
    ]


def test_selection_takes_the_smallest_below_the_limit_and_marks_them():
    score = jnp.array([[0.5, 0.1, 0.9, 0.2], [0.9, 0.9, 0.9, 0.9]])
    at, mask = positions.select_smallest(score, 0.6, 2)
    assert at[0].tolist() == [1, 3] and mask.tolist() == [[True, True], [False, False]]
    assert positions.mark(at, mask, 4).astype(int).tolist() == [[0, 1, 0, 1], [0, 0, 0, 0]]
    assert positions.take(score, at)[0].tolist() == score[0, jnp.array([1, 3])].tolist()


def test_hide_keeps_gaps_unless_told():
    batch = {name: jnp.full((1, 3), 7) for name in ("items", "actions", "gaps", "positions")}
    where = jnp.array([[True, False, False]])
    kept = positions.hide(batch, where, hidden_action=9)
    assert kept["items"].tolist() == [[4, 7, 7]] and kept["actions"].tolist() == [[9, 7, 7]]
    assert kept["gaps"].tolist() == [[7, 7, 7]] == kept["positions"].tolist()
    gone = positions.hide(batch, where, hidden_action=9, hidden_gap=8)
    assert gone["gaps"].tolist() == [[8, 7, 7]]
