import copy
from dataclasses import replace

import jax
import numpy as np
import pytest

from configs.default import get_config
from recjax import hmm
from recjax.data.transforms import gaps_of_times
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.expansion.generate import ItemFacts, fit_generator, load_generator, save_generator
from recjax.expansion.generate.clock import fit_clock
from recjax.expansion.generate.event_batches import EventBatches
from recjax.expansion.generate.generator import GeneratorConfig, split_users
from recjax.expansion.generate.generator_file import to_arrays
from recjax.expansion.generate.hmm_users import HmmUsers
from recjax.expansion.strategy import ExpansionData


def test_config_matches_the_default_config_file(generator_config):
    names = set(get_config().expansion.hmm)
    assert names == set(vars(generator_config))
    settings = GeneratorConfig(**get_config().expansion.hmm).make_settings()
    assert settings.num_states == get_config().expansion.hmm.num_states


def test_held_out_users_are_outside_the_fit_and_evenly_spread():
    held_out, fitted = split_users(1000)
    assert len(held_out) == 50 and len(np.unique(np.r_[held_out, fitted])) == 1000
    assert np.ptp(np.diff(held_out)) <= 1
    assert len(split_users(10)[0]) == 0
    assert len(split_users(10**6)[0]) == 4096


def test_event_batches_have_one_shape_and_hold_the_last_events(real_log, num_gap_bins):
    index = np.arange(65) - NUM_SPECIALS
    users = np.array([3, 0, 7])
    batches = EventBatches(
        real_log, users, index, batch_size=2, max_len=4, num_gap_bins=num_gap_bins
    )
    for _ in range(2):
        read = list(batches())
        assert [batch.items.shape for batch in read] == [(2, 4), (2, 4)]
    for row, user in enumerate(users):
        batch, place = read[row // 2], row % 2
        length = batch.lengths[place]
        record = real_log[user]
        assert length == min(4, len(record["items"]))
        np.testing.assert_array_equal(
            batch.items[place, :length] + NUM_SPECIALS, record["items"][-length:]
        )
        np.testing.assert_array_equal(
            batch.gaps[place, :length], gaps_of_times(record["times"][-length:], num_gap_bins)
        )
    assert read[1].lengths[1] == 0


def test_generator_never_learns_items_unseen_in_training(generator, real_log):
    seen = np.unique(np.concatenate([record["items"] for record in real_log]))
    np.testing.assert_array_equal(generator.item_ids, seen)
    assert generator.params.sizes.num_items == len(seen)


def test_scores_are_per_event_and_nan_for_unknown_ids(generator, real_log):
    scores = generator.score(real_log[:7])
    assert np.isfinite(scores).all() and (scores < 0).all()
    one = generator.score(real_log[2:3])
    np.testing.assert_allclose(one[0], scores[2], rtol=1e-5)
    bad = [
        {**real_log[0], "items": np.full(len(real_log[0]["items"]), value)}
        for value in (0, -1, 999)
    ] + [{**real_log[0], "items": np.zeros(0, int), "actions": np.zeros(0, int)}]
    assert np.isnan(generator.score([*bad, real_log[2]])).tolist() == [True] * 4 + [False]


def test_shuffled_users_score_lower_than_real_ones(generator, real_log):
    rng = np.random.default_rng(0)
    users = [record for record in real_log if len(record["items"]) > 6]
    shuffled = [{**r, "items": rng.permutation(r["items"])} for r in users]
    assert generator.score(users).mean() > generator.score(shuffled).mean() + 0.1


def test_held_out_scores_come_from_users_outside_the_fit(generator, real_log):
    held_out, _ = split_users(len(real_log))
    expected = generator.score([real_log[user] for user in held_out])
    np.testing.assert_allclose(generator.held_out_scores, expected, rtol=1e-6)


def test_saved_generator_is_the_same_generator(generator, tmp_path, real_log):
    save_generator(tmp_path / "deep" / "g.npz", generator)
    loaded = load_generator(tmp_path / "deep" / "g.npz")
    assert loaded.config == generator.config
    arrays = to_arrays(loaded)
    for name, value in to_arrays(generator).items():
        np.testing.assert_array_equal(arrays[name], value)
    assert not list(tmp_path.glob("deep/*.partial"))
    draws = [
        HmmUsers().draw(jax.random.key(3), (state, 1800), 16, 0) for state in (generator, loaded)
    ]
    for left, right in zip(*draws, strict=True):
        np.testing.assert_array_equal(left["items"], right["items"])
        np.testing.assert_array_equal(left["times"], right["times"])


def test_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", item_ids=np.zeros(3))
    with pytest.raises(ValueError, match="not the arrays of a generator"):
        load_generator(tmp_path / "x.npz")


def test_fit_depends_on_the_seed_and_on_nothing_else(real_log, generator, generator_config, sizes):
    before = copy.deepcopy(real_log)
    again = fit_generator(real_log, generator_config, 0, **sizes)
    other = fit_generator(real_log, generator_config, 1, **sizes)
    np.testing.assert_array_equal(again.params.transition, generator.params.transition)
    assert not np.allclose(other.params.transition, generator.params.transition)
    for old, new in zip(before, real_log, strict=True):
        np.testing.assert_array_equal(old["items"], new["items"])


def test_no_users_is_an_error(generator_config, sizes):
    with pytest.raises(ValueError, match="no training users"):
        fit_generator([], generator_config, 0, **sizes)


@pytest.fixture
def facts(category_of_item):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(category_of_item), 3)).astype(np.float32)
    return ItemFacts(category_of_item, np.arange(len(category_of_item)) % 3, vectors)


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"items": "plain"}, hmm.PlainItems),
        ({"items": "auto"}, hmm.CategoryItems),
        ({"items": "category_price"}, hmm.CategoryItems),
        ({"items": "content"}, hmm.ContentItems),
        ({"items": "plain", "start": "kmeans"}, hmm.PlainItems),
        ({"items": "plain", "num_restarts": 2}, hmm.PlainItems),
        ({"items": "plain", "max_duration": 3}, hmm.PlainItems),
    ],
)
def test_settings_of_the_family_change_the_fit(
    real_log, generator_config, sizes, facts, changes, family
):
    """Every one draws known items only, and none is the fit of another."""
    short = replace(generator_config, num_iterations=2, num_states=3)
    state = fit_generator(real_log, replace(short, **changes), 0, **{**sizes, "facts": facts})
    assert isinstance(state.params.items, family)
    if changes != {"items": "plain"}:
        base = replace(short, items="plain")
        other = fit_generator(real_log, base, 0, **{**sizes, "facts": facts})
        assert not np.array_equal(other.held_out_scores, state.held_out_scores)
    if changes.get("items") == "category_price":
        base = replace(short, items="category")
        other = fit_generator(real_log, base, 0, **{**sizes, "facts": facts})
        assert state.params.items.category.shape[1] > other.params.items.category.shape[1]
    records = HmmUsers().draw(jax.random.key(0), (state, 1800), 8, 0)
    assert all(np.isin(record["items"], state.item_ids).all() for record in records)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": "colour"}, "hmm.items = 'colour' is unknown; known: auto, plain"),
        ({"items": "category"}, "needs item categories, and the catalogue has none"),
        ({"items": "content"}, "needs item vectors: set config.features.encoder"),
        ({"start": "warm"}, "hmm.start = 'warm' is unknown; known: random, kmeans"),
    ],
)
def test_settings_that_cannot_be_met_are_named(real_log, generator_config, sizes, changes, message):
    with pytest.raises(ValueError, match=message):
        fit_generator(real_log, replace(generator_config, **changes), 0, **sizes)


def test_clock_draws_gaps_within_their_bin_and_like_the_real_ones(real_log, num_gap_bins):
    clock = fit_clock(real_log, num_gap_bins)
    bins = np.repeat(np.arange(num_gap_bins), 400)
    uniforms = np.tile((np.arange(400) + 0.5) / 400, num_gap_bins)
    seconds = clock.draw_gaps(bins, uniforms)
    for gap_bin in range(1, num_gap_bins):
        drawn = seconds[bins == gap_bin]
        for gap in (drawn.min(), drawn.max()):
            assert gaps_of_times(np.array([0, gap]), num_gap_bins)[1] == gap_bin
    real = np.concatenate([np.diff(record["times"]) for record in real_log])
    last = real[real >= 2 ** (num_gap_bins - 2) - 1]
    np.testing.assert_allclose(
        np.median(seconds[bins == num_gap_bins - 1]), np.median(last), rtol=0.01
    )


def test_clock_keeps_users_inside_the_log_where_they_fit(real_log, num_gap_bins):
    clock = fit_clock(real_log, num_gap_bins)
    rng = np.random.default_rng(0)
    bins, lengths = rng.integers(1, num_gap_bins, (200, 10)), rng.integers(1, 11, 200)
    times = clock.draw_times(bins, lengths, rng.random((200, 10)))
    assert (np.diff(times, axis=1) >= 0).all()
    ends = times[np.arange(200), lengths - 1]
    first = min(record["times"][0] for record in real_log)
    late = ends > clock.last_time
    assert (times[:, 0] >= first).all() and (times[late, 0] == first).all()


def test_all_events_at_one_second_are_no_obstacle(real_log, num_gap_bins):
    clock = fit_clock([{**r, "times": r["times"] * 0 + 5} for r in real_log[:3]], num_gap_bins)
    times = clock.draw_times(np.ones((2, 3), int), np.array([3, 2]), np.full((2, 3), 0.5))
    assert (times == 5).all()


def test_generator_is_shared_through_the_data(generator, real_log):
    data = ExpansionData(real_log, 1800, 5, 20, generator)
    assert HmmUsers().fit(data, 0)[0] is generator


def test_kernel_share_holds_in_every_state_and_in_draws(
    real_log, generator_config, generator, sizes
):
    """Pairs of neighbours in the draws are then mostly pairs that the kernel knows."""
    config = replace(generator_config, num_iterations=2, kernel_share=0.95)
    state = fit_generator(real_log, config, 0, **sizes)
    np.testing.assert_allclose(state.params.mix, 0.95)
    known = np.asarray(state.params.kernel.neighbours)

    def share_of_known(params):
        events, _ = hmm.sample_users(jax.random.key(0), params, 400, max_len=8)
        pairs = np.arange(1, 8)[None] < np.asarray(events.lengths)[:, None]
        items = np.asarray(events.items)
        return (known[items[:, :-1]] == items[:, 1:, None]).any(-1)[pairs].mean()

    assert share_of_known(state.params) > share_of_known(generator.params)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="kernel_share is .*; must be from 0 to below 1"):
            fit_generator(real_log, replace(config, kernel_share=share), 0, **sizes)
