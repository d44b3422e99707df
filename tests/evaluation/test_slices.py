"""Slices on a toy where every mask can be written down."""

import numpy as np

from recjax.evaluation import slices

COUNTS = np.array([0] * 5 + [50, 30, 10, 5, 5, 0])


def test_popularity_groups_by_share_of_events() -> None:
    groups = slices.popularity_groups(COUNTS)
    # 50 % head; the next 30 % middle; 10 + 5 + 5 = the last 20 % tail; 0 cold
    assert groups[5:].tolist() == ["head", "middle", "tail", "tail", "tail", "cold"]


def test_popularity_groups_never_split_equal_counts() -> None:
    assert set(slices.popularity_groups(np.array([0] * 5 + [3] * 9))[5:]) == {"head"}


def test_history_slices_cover_everything_once() -> None:
    lengths = np.array([1, 4, 5, 6, 7, 19, 20, 900])
    facts = slices.ExampleFacts(lengths, np.full(8, 5), COUNTS)
    masks = slices.slice_masks(facts)
    history = np.stack([masks[name] for name in slices.HISTORY_BOUNDS])
    assert history.sum(axis=0).tolist() == [1] * 8
    assert history.argmax(axis=0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert "other_day" not in masks and "category_new" not in masks and "cold_user" not in masks


def test_new_category_needs_a_category() -> None:
    category_ids = np.array([0] * 5 + [1, 1, 2, 0])
    histories = [np.array([5]), np.array([5]), np.array([5]), np.array([], np.int32)]
    new, known = slices.new_categories(np.array([6, 7, 8, 7]), histories, category_ids)
    assert new.tolist() == [False, True, False, True]
    assert known.tolist() == [True, False, False, False]


def test_days_and_cold_users() -> None:
    facts = slices.ExampleFacts(
        history_lengths=np.array([1, 1, 0]),
        targets=np.array([5, 10, 1]),
        train_counts=COUNTS,
        last_times=np.array([86_399, 10, -1]),
        target_times=np.array([86_400, 20, 30]),
        cold_users=np.array([False, False, True]),
    )
    masks = slices.slice_masks(facts)
    assert masks["other_day"].tolist() == [True, False, False]
    assert masks["same_day"].tolist() == [False, True, False]
    assert masks["target_cold"].tolist() == [False, True, True]  # unknown items are cold too
    assert masks["cold_user"].tolist() == [False, False, True]
    assert set(masks) <= set(slices.TITLES)
