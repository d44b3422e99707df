"""Real users that a careless edit leaves as they are, or breaks."""

import numpy as np

from recjax.expansion.records import make_record

SESSION_GAP = 1800
CASES = [  # items, and where they matter gaps (s) and actions
    ([7],), ([7, 8],), ([7, 7],), ([7, 7, 7, 7],), ([7, 8, 7],), ([7, 8, 9, 8, 7],),
    ([7, 7, 7, 7, 7, 7, 8],), ([9, 10, 9], [0, 0]), ([9, 10], [1]), ([9, 10, 11], [1, 1]),
    ([5, 6, 7], [1, 0]), ([12, 13, 14, 15], [10, 10, 90_000]),
    ([12, 13, 14, 15], [10, 10, 90_000]), (list(range(5, 45)),), (list(range(20, 50)),),
    ([9, 10, 11], None, [0, 1, 0]), ([9, 10, 11], None, [0, 1, 1]), ([5, 6], None, [2, 2]),
]  # fmt: skip


def plant_user(user, items, gaps=None, actions=None):
    times = 2_000_000 + np.cumsum([0, *(gaps or [60] * (len(items) - 1))])
    actions = np.array(actions or [0] * len(items))
    return make_record(np.array(items), actions, times, session_gap_seconds=SESSION_GAP, user=user)


def plant_hard_users(first):
    """One user of each case, numbered from `first` on."""
    return [plant_user(first + place, *case) for place, case in enumerate(CASES)]
