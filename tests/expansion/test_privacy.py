import numpy as np
import pytest

from recjax.expansion.privacy import measure_privacy
from recjax.expansion.records import make_record


@pytest.fixture
def log_of():
    """Turns item sequences into users, numbered from `first`, or all of them nobody's (-1)."""

    def make(sequences, first=0):
        return [
            make_record(
                np.array(items), np.zeros(len(items)), np.arange(len(items)),
                session_gap_seconds=1800, user=-1 if first < 0 else first + user,
            )
            for user, items in enumerate(sequences)
        ]  # fmt: skip

    return make


def _similarity(left, right):
    def parts(items):
        return {*items} | {*zip(items[:-1], items[1:], strict=True)}

    return len(parts(left) & parts(right)) / len(parts(left) | parts(right))


def test_nearest_is_that_of_brute_force(log_of):
    rng = np.random.default_rng(0)
    real, draws, unseen = (
        [rng.integers(5, 25, rng.integers(2, 9)).tolist() for _ in range(size)]
        for size in (40, 30, 10)
    )
    log = log_of(real + unseen)
    found = measure_privacy(log, log_of(draws, first=-1), np.arange(40, 50))
    nearest = [max(_similarity(draw, user) for user in real) for draw in draws]
    np.testing.assert_allclose(found.synthetic, nearest, rtol=1e-6)
    others = [
        max(_similarity(user, other) for j, other in enumerate(real) if i != j)
        for i, user in enumerate(real)
    ]
    np.testing.assert_allclose(found.real, others, rtol=1e-6)
    for part, users in ((found.members, real), (found.held_out, unseen)):
        nearest = [max(_similarity(user, draw) for draw in draws) for user in users]
        np.testing.assert_allclose(part, nearest, rtol=1e-6)


def test_a_draw_is_not_held_against_the_user_it_continues(log_of):
    log = log_of([[5, 6, 7], [8, 9, 10]])
    own = [{**log[0], "source": 2}, {**log[1], "user": -1, "source": 1}]
    found = measure_privacy(log, own, ())
    assert found.synthetic.tolist() == [0.0, 1.0] and found.members.tolist() == [0.0, 1.0]


def test_membership_attack_tells_copied_users_from_held_out_ones(real_log, fresh_log):
    held_out = np.arange(0, 400, 8)
    copied = [{**real_log[i], "user": -1} for i in range(400) if i % 8]
    leaky = measure_privacy(real_log, copied, held_out)
    assert leaky.membership_auc > 0.9 and leaky.nearer_share > 0.5
    fine = measure_privacy(real_log, fresh_log, held_out)
    assert abs(fine.membership_auc - 0.5) < 0.1 and fine.nearer_share < 0.12
    assert measure_privacy(real_log, fresh_log, ()).membership_auc is None
