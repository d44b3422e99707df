"""A toy log with categories, sessions and order, and the default settings of the gate."""

import numpy as np
import pytest

from configs import default
from recjax.data.vocabulary import NUM_SPECIALS
from recjax.expansion.edit import EditConfig
from recjax.expansion.gate import GateConfig, build_reference
from recjax.expansion.generate import GeneratorConfig, ItemFacts, fit_generator
from recjax.expansion.records import make_record
from recjax.expansion.similarity import SimilarityConfig, count_co_visits

NUM_ITEMS, NUM_ACTIONS, NUM_GAP_BINS, SESSION_GAP = 60, 4, 16, 1800
VOCAB_SIZE = NUM_SPECIALS + NUM_ITEMS
CATEGORY_OF_ITEM = np.concatenate([np.zeros(NUM_SPECIALS), 1 + np.arange(NUM_ITEMS) // 10])
REFERENCE_SIZES = {
    "vocab_size": VOCAB_SIZE,
    "num_actions": NUM_ACTIONS,
    "category_of_item": CATEGORY_OF_ITEM.astype(int),
}


def make_toy_log(seed, num_users, source=0, first_user=0):
    """Users that stay in a category, walk its items in order, and view before they buy."""
    rng = np.random.default_rng([seed, 1])
    records = []
    for user in range(first_user, first_user + num_users):
        length = int(rng.integers(2, 14))
        category, items, actions = int(rng.integers(6)), [], []
        place = int(rng.integers(10))
        for _ in range(length):
            if rng.random() < 0.15:
                category = (category + 1) % 6
            # a low place is popular
            fresh = min(int(rng.geometric(0.25)) - 1, 9)
            place = (place + 1) % 10 if rng.random() < 0.4 else fresh
            items.append(NUM_SPECIALS + category * 10 + place)
            previous = actions[-1] if actions else 0
            actions.append((previous + 1) % 3 if rng.random() < 0.7 else int(rng.integers(3)))
        gaps = np.where(rng.random(length) < 0.3, 90_000, 40) + rng.integers(0, 30, length)
        times = 1_000_000 + int(rng.integers(100_000)) + np.cumsum(gaps)
        records.append(
            make_record(
                np.array(items), np.array(actions), times,
                session_gap_seconds=SESSION_GAP, user=user, source=source,
            )
        )  # fmt: skip
    return records


@pytest.fixture(scope="session")
def real_log():
    return make_toy_log(0, 400)


@pytest.fixture(scope="session")
def fresh_log():
    """Other users of the same process: what a perfect generator would draw."""
    return [{**record, "user": -1} for record in make_toy_log(1, 400, source=1)]


@pytest.fixture
def gate_config():
    return GateConfig(
        drop_exact_duplicates=True,
        near_duplicate_jaccard=0.9,
        merge_similar=False,
        num_hashes=64,
        shingle_len=3,
        likelihood_band=(0.005, 0.995),
        discriminator_quantile=0.0,
        rare_item_share=0.2,
        rare_item_quota=0.05,
        category_floor=0.0,
        category_cap=0.0,
        cross_category_quota=0.0,
        min_len=2,
        max_draw_factor=4.0,
    )


@pytest.fixture
def reference(real_log, gate_config):
    # the fixture log holds every item by chance or not; the gate allows what it saw
    return build_reference(real_log, gate_config, **REFERENCE_SIZES)


@pytest.fixture(scope="session")
def reference_sizes():
    return REFERENCE_SIZES


@pytest.fixture
def draw_of():
    """Turns a list of records into a draw function that starts again when it is used up."""

    def make(records):
        return lambda first, n: [records[(first + i) % len(records)] for i in range(n)]

    return make


@pytest.fixture(scope="session")
def num_gap_bins():
    return NUM_GAP_BINS


@pytest.fixture(scope="session")
def category_of_item():
    return CATEGORY_OF_ITEM.astype(int)


@pytest.fixture(scope="session")
def sizes():
    nothing = ItemFacts(np.zeros(VOCAB_SIZE, int), np.zeros(VOCAB_SIZE, int))
    return {
        "vocab_size": VOCAB_SIZE,
        "num_actions": NUM_ACTIONS,
        "num_gap_bins": NUM_GAP_BINS,
        "facts": nothing,
    }


@pytest.fixture(scope="session")
def generator_config():
    return GeneratorConfig(
        num_states=6,
        num_iterations=8,
        tolerance=1e-4,
        kernel_window=2,
        kernel_neighbours=10,
        kernel_backward=0.5,
        kernel_damping=0.5,
        smoothing=0.1,
        kernel_share=0.0,
        max_duration=1,
        items="auto",
        start="random",
        num_restarts=1,
        max_len=16,
        batch_size=64,
        temperature=1.0,
        no_repeats=False,
    )


@pytest.fixture(scope="session")
def generator(real_log, generator_config, sizes):
    return fit_generator(real_log, generator_config, 0, **sizes)


@pytest.fixture(scope="session")
def edit_config():
    return EditConfig(**default.get_config().expansion.edits)


@pytest.fixture(scope="session")
def similar(real_log):
    config = SimilarityConfig(**default.get_config().expansion.similarity)
    return count_co_visits(real_log, VOCAB_SIZE, config)
