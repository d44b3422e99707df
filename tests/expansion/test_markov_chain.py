import jax
import numpy as np
import pytest

from recjax.expansion.generate.habits import fit_habits
from recjax.expansion.generate.markov_chain import MarkovChain, fit_chain
from recjax.expansion.strategy import ExpansionData

LOG = [[5, 6, 5, 6, 7], [6, 5, 6], [9, 6, 6, 8], [7], [5, 8]]


def _source(sequences):
    return [
        {"items": np.array(items), "actions": np.zeros(len(items), int),
         "times": 10 * np.arange(len(items))}
        for items in sequences
    ]  # fmt: skip


def _table(sequences, num_ids):
    """p(next | item) by the formula of method C, pair by pair."""
    counts, occurs = np.zeros((num_ids, num_ids)), np.zeros(num_ids)
    for items in sequences:
        for item in items:
            occurs[item] += 1
        for before, after in zip(items, items[1:], strict=False):
            counts[before, after] += 1
    table = np.tile(occurs / occurs.sum(), (num_ids, 1))
    for item in range(num_ids):
        distinct = (counts[item] > 0).sum()
        if distinct:
            total = counts[item].sum() + distinct
            table[item] = (counts[item] + distinct * occurs / occurs.sum()) / total
    return table


def _chi_square(seen, expected):
    assert not seen[expected == 0].any()
    return ((seen - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()


@pytest.mark.parametrize("item", [5, 6, 7, 8, 9])
def test_next_items_have_the_frequencies_of_the_counts(item):
    uniforms = np.random.default_rng(item).random(50_000)
    drawn = fit_chain(_source(LOG)).draw_next(np.full(50_000, item), uniforms)
    expected = 50_000 * _table(LOG, 10)[item]
    assert _chi_square(np.bincount(drawn, minlength=10), expected) < 25  # 4 degrees, p = 5e-5


def test_first_items_are_those_that_users_begin_with():
    uniforms = np.random.default_rng(0).random(50_000)
    drawn = fit_chain(_source(LOG)).draw_first(uniforms)
    expected = 10_000 * np.bincount([5, 6, 9, 7, 5], minlength=10)
    assert _chi_square(np.bincount(drawn, minlength=10), expected) < 25


def test_ends_of_the_unit_interval_draw_real_items():
    chain, ends = fit_chain(_source(LOG)), np.array([0.0, 1.0 - 2.0**-53])
    for item in range(5, 10):
        drawn = chain.draw_next(np.array([item, item]), ends)
        assert set(drawn) <= {5, 6, 7, 8, 9}
    assert chain.draw_first(ends).tolist() == [5, 9]


def test_transitions_of_draws_are_those_of_the_table(real_log):
    """Of whole users, so that a step that is shifted or keyed wrongly shows."""
    strategy = MarkovChain()
    state = strategy.fit(ExpansionData(real_log, 1800, 5, 16), 0)
    draws = [record["items"] for record in strategy.draw(jax.random.key(0), state, 8000, 0)]
    table = _table([record["items"].tolist() for record in real_log], 65)
    before = np.concatenate([items[:-1] for items in draws])
    after = np.concatenate([items[1:] for items in draws])
    seen = np.bincount(before * 65 + after, minlength=65 * 65)
    expected = (np.bincount(before, minlength=65)[:, None] * table).ravel()
    many = expected >= 5
    freedom = many.sum() - 60
    distance = ((seen - expected)[many] ** 2 / expected[many]).sum()
    assert abs(distance - freedom) < 5 * np.sqrt(2 * freedom)


def test_habits_are_those_of_the_log(real_log):
    habits = fit_habits(real_log, 16, 1800)
    items = np.full((6000, 16), 5)
    draws = habits.draw(jax.random.key(0), 0, 6000).fill_in(items)
    for measure in (
        lambda record: len(record["items"]),
        lambda record: (np.diff(record["actions"]) % 3 == 1).mean() if len(record["actions"]) > 1
        else 0.7,
        lambda record: (record["actions"][0] == 1),
        lambda record: record["sessions"][-1],
        lambda record: record["times"][0] / 1e5,
    ):  # fmt: skip
        real, drawn = (np.array([measure(r) for r in log], float) for log in (real_log, draws))
        noise = real.std() * np.sqrt(1 / len(real) + 1 / len(drawn))
        assert abs(real.mean() - drawn.mean()) < 4.5 * noise + 1e-9
    assert fit_habits(real_log, 4, 1800).draw(jax.random.key(0), 0, 200).lengths.max() == 4
