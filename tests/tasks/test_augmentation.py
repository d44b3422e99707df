import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.tasks.augmentation import AUGMENTATIONS, Augmentation

LENGTHS = [[5, 4, 3], [12], [2, 2, 2]]
AUGMENT = Augmentation(crop_share=0.6, mask_share=0.3, reorder_share=0.6, hidden_action=4)


def _augmented(batch, name, augment=AUGMENT):
    """Yields (events before [n, 3], events after, positions after) of every sequence."""
    rows = len(batch["items"])
    keys = jax.random.split(jax.random.key(3), rows)
    after = jax.jit(augment, static_argnums=2)(batch, keys, name)
    before, after = ({k: np.asarray(v) for k, v in part.items()} for part in (batch, after))
    for row in range(rows):
        for number in range(1, before["segments"][row].max() + 1):
            parts = []
            for part in (before, after):
                where = part["segments"][row] == number
                parts += [np.stack([part[k][row][where] for k in ("items", "actions", "gaps")], 1)]
            yield *parts, after["positions"][row][after["segments"][row] == number]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_copy_equals_its_original(make_batch, name):
    batch = make_batch(LENGTHS * 100)
    batch["items"] = batch["items"].at[2].set(7)  # always the same item
    for before, after, _ in _augmented(batch, name):
        assert len(after) > 0 and not np.array_equal(before[:, 0], after[:, 0])


def test_crop_keeps_neighbours_and_counts_positions_anew(make_batch):
    for before, after, positions in _augmented(make_batch(LENGTHS * 20), "crop"):
        kept = min(max(round(0.6 * len(before)), 1), len(before) - 1)
        assert len(after) == kept and positions.tolist() == list(range(kept))
        starts = range(len(before) - kept + 1)
        assert any(np.array_equal(before[start : start + kept], after) for start in starts)


def test_mask_hides_its_share(make_batch):
    for before, after, _ in _augmented(make_batch(LENGTHS * 20), "mask"):
        hidden = after[:, 0] == 4
        assert hidden.sum() == min(max(round(0.3 * len(before)), 1), len(before) - 1)
        assert (after[hidden, 1] == 4).all()
        np.testing.assert_array_equal(before[~hidden], after[~hidden])
        np.testing.assert_array_equal(before[:, 2], after[:, 2])


def test_reorder_moves_items_with_their_actions_inside_a_window(make_batch):
    orders = set()
    for before, after, _ in _augmented(make_batch(LENGTHS * 200), "reorder"):
        if (after[:, 0] == 4).any():
            continue  # a shuffle that changed nothing: masked instead
        np.testing.assert_array_equal(np.sort(before[:, 0]), np.sort(after[:, 0]))
        assert sorted(map(tuple, before[:, :2])) == sorted(map(tuple, after[:, :2]))
        np.testing.assert_array_equal(before[:, 2], after[:, 2])
        moved = np.flatnonzero(before[:, 0] != after[:, 0])
        size = max(round(0.6 * len(before)), 2)
        assert moved.max() - moved.min() < size
        if len(set(before[:, 0])) == len(before):
            assert len(moved) == size  # each one changed its place
        if len(before) == 3:
            orders.add(tuple(moved))
    assert orders == {(0, 1), (1, 2)}  # windows of two, at both places


@pytest.mark.parametrize(
    ("name", "share"),
    [("crop", "crop_share"), ("mask", "mask_share"), ("reorder", "reorder_share")],
)
def test_shares_count_and_are_checked(make_batch, name, share):
    batch = make_batch([[12]] * 8)
    other = Augmentation(**(dict(vars(AUGMENT)) | {share: 0.9}))
    found = [list(_augmented(batch, name, augment)) for augment in (AUGMENT, other)]
    same = [np.array_equal(a[1], b[1]) for a, b in zip(*found, strict=True)]
    assert not all(same)
    with pytest.raises(ValueError, match=share):
        Augmentation(**(dict(vars(AUGMENT)) | {share: 0.0}))


def test_single_events_have_no_crop_and_padding_stays(make_batch):
    batch = make_batch([[1, 1, 2], []])
    for name in AUGMENTATIONS:
        after = AUGMENT(batch, jax.random.split(jax.random.key(0), 2), name)
        padding = np.asarray(batch["segments"]) == 0
        for field in ("items", "segments", "positions"):
            assert (np.asarray(after[field])[padding] == 0).all()
        assert jnp.isin(after["segments"][0, :2], jnp.arange(3)).all()
