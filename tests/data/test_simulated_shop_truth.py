"""The process of the simulated shop and its oracle: what it promises to be, and that it is so."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.simulated_shop import (
    ACTIONS,
    START_TIME,
    ShopConfig,
    SimulatedShop,
    choice,
    process,
    slates,
)
from recjax.data.simulated_shop.blocks import draw_block
from recjax.data.simulated_shop.config import BUY, CART, SEARCH, VIEW
from recjax.data.simulated_shop.mind import COMPARE, DURATIONS
from recjax.data.simulated_shop.population import TAPE

CONFIG = ShopConfig(num_users=1500, num_items=300, seed=11, dirty_share=0.0, bot_share=0.0)


@pytest.fixture(scope="module")
def shop() -> SimulatedShop:
    return SimulatedShop(CONFIG)


@pytest.fixture(scope="module")
def block(shop):
    return draw_block(shop.world, np.arange(CONFIG.num_users))


@pytest.fixture(scope="module")
def steps(block):
    return block.simulate()


@pytest.fixture(scope="module")
def views(shop, block, steps):
    """Slots of views in the last tenth of time, and their true distributions."""
    late = block.clock.time >= np.quantile(block.clock.time, 0.9)
    slots = np.flatnonzero((steps.action == VIEW) & late)
    names = block.names[block.clock.user[slots]].tolist()
    return slots, shop.oracle_next_item(names, block.clock.time[slots], actions=["view"])


@pytest.fixture(scope="module")
def impressions(shop) -> pa.Table:
    return pa.Table.from_batches(shop.impression_batches())


class Snapshot:
    """An observer that keeps the state before one event number."""

    def __init__(self, number: int) -> None:
        self.left, self.seen = number, None

    def __call__(self, mind, who, slots, times):
        if self.left == 0:
            copies = {f.name: getattr(mind, f.name).copy() for f in dataclasses.fields(mind)}
            self.seen = (dataclasses.replace(mind, **copies), who.copy(), times.copy())
        self.left -= 1


def repeat_row(thing, row: int, times: int):
    """Makes `times` copies of one user of a dataclass of arrays."""
    fields = [f.name for f in dataclasses.fields(thing) if f.name != "rngs"]
    copies = {name: np.repeat(getattr(thing, name)[[row]], times, axis=0) for name in fields}
    return dataclasses.replace(thing, **copies)


@pytest.mark.parametrize("number", [1, 6, 17])
def test_oracle_agrees_with_frequencies_of_many_draws(shop, block, number):
    snapshot = Snapshot(number)
    block.simulate(snapshot)
    mind, who, times = snapshot.seen
    draws, rng = 40_000, np.random.default_rng(0)
    for place in (0, len(who) // 2):
        row, now = who[place], np.full(draws, times[place])
        people, state = repeat_row(block.people, row, draws), repeat_row(mind, row, draws)
        users = np.arange(draws)
        truth = choice.item_distribution(
            shop.world, people, state, users[:1], now[:1], np.ones(len(ACTIONS), bool)
        )[0]
        tape = rng.random((draws, len(TAPE)))
        action, item, _ = process._draw_events(shop.world, people, state, users, now, tape)
        drawn = item[action != SEARCH]
        share = np.bincount(drawn, minlength=len(truth)) / len(drawn)
        error = np.sqrt(np.maximum(truth, 1e-4) / len(drawn))
        assert np.abs(share - truth).max() < 0.02
        assert (np.abs(share - truth) < 5 * error).all()


def test_oracle_rows_are_distributions(views):
    _, truth = views
    assert truth.dtype == np.float32
    assert np.allclose(truth.sum(axis=1), 1.0, atol=1e-5)
    assert truth.min() >= 0.0


def test_oracle_is_calibrated_on_what_happened(steps, views):
    slots, truth = views
    got = truth[np.arange(len(slots)), steps.item[slots]]
    expected, variance = (truth**2).sum(axis=1), (truth**3).sum(1) - (truth**2).sum(1) ** 2
    assert abs((got - expected).mean()) < 4 * np.sqrt(variance.mean() / len(slots))
    hit = truth.argmax(axis=1) == steps.item[slots]
    assert abs(hit.mean() - truth.max(axis=1).mean()) < 4 * np.sqrt(0.25 / len(slots))


def test_oracle_beats_popularity_in_log_probability(block, steps, views):
    slots, truth = views
    before = block.clock.time < block.clock.time[slots].min()
    counts = np.bincount(steps.item[before & (steps.action == VIEW)], minlength=CONFIG.num_items)
    popularity = (counts + 1) / (counts + 1).sum()
    items = steps.item[slots]
    gain = np.log(truth[np.arange(len(slots)), items]) - np.log(popularity[items])
    assert gain.mean() > 1.5


def test_oracle_does_not_depend_on_the_other_queries(shop, block, views):
    slots, truth = views
    picked = np.array([5, 3, 5])
    names = block.names[block.clock.user[slots[picked]]].tolist()
    alone = shop.oracle_next_item(names, block.clock.time[slots[picked]], actions=["view"])
    np.testing.assert_allclose(alone, truth[picked], rtol=1e-5)


def test_oracle_knows_what_the_action_says(shop, block, steps):
    slots = np.flatnonzero(steps.action == CART)[:20]
    names, times = block.names[block.clock.user[slots]].tolist(), block.clock.time[slots]
    rows = np.arange(len(slots))
    sure = shop.oracle_next_item(names, times, actions=["cart"])[rows, steps.item[slots]]
    np.testing.assert_allclose(sure, 1.0)
    blind = shop.oracle_next_item(names, times)[rows, steps.item[slots]]
    assert (blind < 0.999).all() and (blind > 0.01).all()


def test_oracle_refuses_what_never_happened(shop, block):
    with pytest.raises(ValueError, match="no true event at second 12"):
        shop.oracle_next_item(["u0000001"], np.array([12]))
    with pytest.raises(ValueError, match="no user 'nobody1'"):
        shop.oracle_next_item(["nobody1"], np.array([12]))
    with pytest.raises(ValueError, match="unknown actions"):
        shop.oracle_next_item(["u0000001"], block.clock.time[:1], actions=["sing"])
    with pytest.raises(ValueError, match="no true impression"):
        shop.oracle_clicks(["u0000001"], np.array([12]), ["i000001"])


def test_action_shares_are_distributions(shop, block):
    def check(mind, who, slots, times):
        shares = choice.action_shares(shop.world, block.people, mind, who, times)
        assert shares.min() >= 0.0
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)

    block.simulate(check)


def counting_scores(items, user, train, num_items):
    """Counting floor with window 3, backward 0.5 and item exponent 0.3, see the evaluation."""
    counts = np.zeros((num_items, num_items))
    for step in (1, 2, 3):
        pair = (user[step:] == user[:-step]) & train[step:]
        np.add.at(counts, (items[:-step][pair], items[step:][pair]), 1 / step)
    counts += 0.5 * counts.T
    seen = np.maximum(np.bincount(items[train], minlength=num_items), 1.0)
    return counts / seen[:, None] ** 0.5 / seen**0.3, seen


def ndcg_at_10(scores, targets):
    own = scores[np.arange(len(targets)), targets][:, None]
    rank = (scores > own).sum(1) + 0.5 * ((scores == own).sum(1) - 1)
    return np.where(rank < 10, 1 / np.log2(rank + 2), 0.0).mean()


def test_oracle_beats_counting_and_counting_beats_popularity(block, steps, views):
    slots, truth = views
    kept = np.flatnonzero(steps.action != SEARCH)
    items, user, time = steps.item[kept], block.clock.user[kept], block.clock.time[kept]
    train = time < block.clock.time[slots].min()
    table, seen = counting_scores(items, user, train, CONFIG.num_items)
    place = np.searchsorted(kept, slots)
    counting = np.zeros(truth.shape)
    for row, end in enumerate(place):
        past = items[:end][user[:end] == user[end]][:-11:-1]
        counting[row] = (0.5 ** np.arange(len(past))[:, None] * table[past]).sum(0) + 1e-9 * seen
    targets = items[place]
    popularity = ndcg_at_10(np.tile(seen, (len(place), 1)), targets)
    floor, oracle = ndcg_at_10(counting, targets), ndcg_at_10(truth, targets)
    assert floor > 2 * popularity
    assert oracle > 1.5 * floor


def test_clicks_are_calibrated_and_fall_with_position(shop, impressions):
    label = impressions["label"].to_numpy().astype(float)
    chance = impressions["true_click_probability"].to_numpy().astype(float)
    for low, high in ((0.0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 1.0)):
        part = (chance >= low) & (chance < high)
        error = np.sqrt((chance[part] * (1 - chance[part])).sum()) / part.sum()
        assert abs(label[part].mean() - chance[part].mean()) < 4 * error
    position = impressions["position"].to_numpy()
    assert label[position == 0].mean() > 1.8 * label[position == 5].mean()
    asked = impressions.slice(50, 30)
    columns = [asked[name].to_pylist() for name in ("user_id", "timestamp", "item_id")]
    again = shop.oracle_clicks(columns[0], np.array(columns[1]), columns[2])
    np.testing.assert_allclose(again, asked["true_click_probability"].to_numpy(), rtol=1e-6)


def test_strips_have_no_doubles_and_propensities_are_frequencies(shop, impressions):
    per_strip = impressions.group_by("impression_id").aggregate([("item_id", "count_distinct")])
    assert set(per_strip["item_id_count_distinct"].to_pylist()) == {slates.NUM_PLACES}
    draws, rng = 200_000, np.random.default_rng(1)
    last = np.full(draws, 17)
    now = np.full(draws, START_TIME + 20 * 86400)
    items, propensity = slates._draw_strips(shop.world, last, now, rng.random((draws, 14)))
    for place in (0, 4):
        shown, first = np.unique(items[:, place], return_index=True)
        share = np.bincount(items[:, place], minlength=CONFIG.num_items)[shown] / draws
        stated = propensity[first, place]
        assert abs(stated.sum() - 1.0) < 1e-9  # every live item is possible
        assert (np.abs(share - stated) < 5 * np.sqrt(stated / draws)).all()


def test_intents_do_not_last_geometrically(block, steps):
    opens = np.flatnonzero(steps.intent_opens)
    user = block.clock.user[opens]
    whole = user[1:] == user[:-1]  # the next intent of the same user ends this one
    durations, kind = np.diff(opens)[whole], steps.intent[opens][:-1][whole]
    compare = durations[kind == COMPARE]
    geometric_short = 1 - (1 - 1 / compare.mean()) ** 3
    assert len(compare) > 200
    assert (compare <= 3).mean() < 0.5 * geometric_short
    assert np.bincount(compare)[5:10].sum() > 0.5 * len(compare)
    hazards = DURATIONS / np.cumsum(DURATIONS[:, ::-1], axis=1)[:, ::-1].clip(1e-12)
    assert (np.ptp(hazards, axis=1) > 0.3).all()


def test_intents_go_on_over_sessions(block, steps):
    opening = steps.intent_opens[block.clock.starts & (block.clock.session > 0)]
    assert 0.4 < 1 - opening.mean() < 0.95


def test_carted_items_are_remembered_and_bought_ones_avoided(block, steps):
    user, session, item = block.clock.user, block.clock.session, steps.item
    last: dict[tuple[int, int], tuple[int, int]] = {}
    tried, seen = {BUY: 0, CART: 0}, {BUY: 0, CART: 0}
    by_user = np.split(np.arange(len(user)), np.flatnonzero(np.diff(user)) + 1)
    for slots in by_user:
        last = {int(item[s]): (steps.action[s], session[s]) for s in slots if steps.action[s] >= 4}
        for thing, (action, when) in last.items():
            later = slots[(session[slots] > when) & (steps.action[slots] == VIEW)]
            if action in tried and len(later):
                tried[action] += len(later)
                seen[action] += int((item[later] == thing).sum())
    assert seen[CART] / tried[CART] > 4 * seen[BUY] / tried[BUY]


def test_purchases_call_for_complements(shop, block, steps):
    leaf = shop.world.leaf[steps.item]
    user = block.clock.user
    opens = np.flatnonzero(steps.intent_opens & (steps.action == VIEW))
    opens = opens[(opens > 3) & (user[np.maximum(opens - 3, 0)] == user[opens])]
    partners = shop.world.complement_leaves[leaf[opens - 1]]
    fits = (partners == leaf[opens][:, None]).any(1)
    bought = np.stack([steps.action[opens - back] == BUY for back in (1, 2)]).any(0)
    assert bought.sum() > 30
    assert fits[bought].mean() > 1.8 * fits[~bought].mean()


def test_sales_and_trends_move_demand(shop, block, steps):
    view = steps.action == VIEW
    item, time = steps.item[view], block.clock.time[view]
    on_sale = shop.world.log_discount(item, time) > 0
    weeks = START_TIME + np.arange(8)[:, None] * 7 * 86400
    offered = shop.world.log_discount(np.arange(CONFIG.num_items)[None], weeks) > 0
    assert 0.08 < offered.mean() < 0.16
    assert on_sale.mean() > 1.2 * offered.mean()
    rising = shop.world.trend[item]
    late = time > START_TIME + CONFIG.num_days * 86400 / 2
    assert rising[late].mean() > rising[~late].mean() + 0.15


def test_users_differ_in_price_and_liked_departments(shop, block, steps):
    view = steps.action == VIEW
    user, item = block.clock.user[view], steps.item[view]
    budget = block.people.budget[user]
    assert np.corrcoef(budget, shop.world.relative_price[item])[0, 1] > 0.15
    segment, department = block.people.segment[user], shop.world.leaf[item] % 8
    table = np.zeros((6, 8))
    np.add.at(table, (segment, department), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() > 500  # 35 degrees of freedom
