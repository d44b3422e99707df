"""The expand stage with edits: all of them in one arm, and where similar items come from."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_records import make_item_table
from record_experiment import make_experiment

from configs import smoke
from recjax.data.record_sources import open_examples
from recjax.errors import UserError
from recjax.expansion.edit.user_edits import Editor
from recjax.expansion.registry import STRATEGIES, get_source_index
from recjax.experiment import Experiment
from recjax.stages import expand
from recjax.stages.similar_items import open_similar_items

EDITS = [name for name, strategy in STRATEGIES.items() if isinstance(strategy, Editor)]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    experiment = make_experiment(smoke.get_config(), tmp_path, monkeypatch)
    monkeypatch.setattr(Experiment, "items", make_item_table())
    return experiment


def test_every_edit_can_be_mixed_into_an_arm(experiment, tmp_path):
    config = experiment.context.config
    config.expansion.arms = {"edited": dict.fromkeys(EDITS, 1.0)}
    config.expansion.ratio = 4.0
    expand.run(experiment.context)
    folder = tmp_path / "expansion" / "edited" / "seed_0"
    source = open_examples(folder, "sequences", "train")
    kept = {source[place]["source"] for place in range(len(source))}
    assert kept == {get_source_index(name) for name in EDITS}
    counts = json.loads((folder / "gate.json").read_text())
    assert all("invalid" not in counts[name]["removed"] for name in EDITS)
    assert (tmp_path / "expansion" / "similar_items.npz").exists()


def test_bad_settings_of_edits_end_with_one_message(experiment):
    config = experiment.context.config
    config.expansion.arms = {"edited": {"crop": 1.0}}
    config.expansion.edits.crop_share = 2.0
    with pytest.raises(UserError, match="config.expansion: edits.crop_share is 2.0"):
        expand.run(experiment.context)


@pytest.mark.slow  # compiles
def test_clicks_of_draws_are_written_where_the_config_asks(experiment, tmp_path):
    config = experiment.context.config.expansion
    config.arms = {"again": {"repeat": 1.0}}
    config.ratio, config.clicks.per_user, config.hmm.num_iterations = 1.0, 2, 1
    expand.run(experiment.context)
    folder = tmp_path / "expansion" / "again" / "seed_0"
    users = open_examples(folder, "sequences", "train")
    clicks = experiment.synthetic("again", 0, "click")
    taken = sum(min(2, len(users[place]["items"]) - 1) for place in range(len(users)))
    assert len(clicks) == taken * (1 + config.clicks.negatives)
    assert {clicks[place]["source"] for place in range(10)} == {get_source_index("repeat")}


def find_lists(experiment, tmp_path, **settings):
    experiment.context.config.expansion.similarity.update(settings)
    name = "-".join(map(str, settings.values()))
    return open_similar_items(experiment, tmp_path / f"{name}.npz")


def test_keys_of_similarity_change_the_lists_and_name_what_is_missing(experiment, tmp_path):
    with pytest.raises(ValueError, match="needs item vectors: set config.features.encoder"):
        find_lists(experiment, tmp_path, by="vectors")
    with pytest.raises(ValueError, match="needs a knowledge graph: set config.data.graph_path"):
        find_lists(experiment, tmp_path, by="graph")
    size = experiment.items.vocab_size
    (tmp_path / "features").mkdir()
    vectors = np.random.default_rng(0).normal(size=(size, 4))
    np.save(tmp_path / "features" / "item_vectors.npy", vectors)
    names = experiment.items.item_ids[5:]
    facts = {"head": names, "relation": names, "tail": [f"t{i % 7}" for i in range(len(names))]}
    (tmp_path / "prepared").mkdir()
    pq.write_table(pa.table(facts), tmp_path / "prepared" / "graph.parquet")
    found = [
        find_lists(experiment, tmp_path, **settings)
        for settings in ({"by": "graph"}, {"by": "vectors"}, {"by": "co_visit"}, {"window": 1})
    ]
    assert len({similar.neighbours.tobytes() for similar in found}) == 4
    assert find_lists(experiment, tmp_path, num_items=3).neighbours.shape == (size, 3)


def test_lists_are_made_once(experiment, tmp_path, monkeypatch):
    made = open_similar_items(experiment, tmp_path / "lists.npz")
    monkeypatch.setattr("recjax.stages.similar_items.count_co_visits", None)
    read = open_similar_items(experiment, tmp_path / "lists.npz")
    np.testing.assert_array_equal(read.neighbours, made.neighbours)
    np.testing.assert_array_equal(read.ends, made.ends)
